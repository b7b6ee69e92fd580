//! Builds a [`Shape`] from abi_stable's description of a type.

use std::{collections::HashMap, fmt::Display, ptr};

use abi_stable::type_layout::{TLData, TLEnum, TLField, TLPrimitive, TypeLayout};

use super::{Field, Kind, Shape, Type, place, tag};

/// No type in use consists of more types, or is nested more deeply.
const TYPES_MAX: usize = 10_000;
const DEPTH_MAX: usize = 200;

#[derive(Default)]
pub(super) struct Walk {
    types: Vec<Type>,
    /// The index of each known type, by the address of its description and whether it occurs as a marker.
    /// (abi_stable's id of a type would not do: two types that differ only in an unconstrained parameter have the
    /// same id.)
    known: HashMap<(*const TypeLayout, bool), usize>,
    has_containers: bool,
    path: Vec<String>,
    /// Whether the current type occurs as a marker. No part of a marker is in a value, so it may be of any kind.
    is_marker: bool,
    /// The contents of the cells around the types of this walk, from the outermost to the innermost.
    around: Vec<*const TypeLayout>,
}

impl Walk {
    pub(super) fn over(layout: &'static TypeLayout) -> Result<Shape, String> {
        Self::default().finish(layout)
    }

    fn finish(mut self, layout: &'static TypeLayout) -> Result<Shape, String> {
        self.visit(layout)?;
        Ok(Shape {
            plain: !self.has_containers,
            types: self.types,
        })
    }

    fn visit(&mut self, layout: &'static TypeLayout) -> Result<usize, String> {
        let key = (ptr::from_ref(layout), self.is_marker);
        if let Some(index) = self.known.get(&key) {
            return Ok(*index);
        }
        let index = self.types.len();
        if index >= TYPES_MAX || self.path.len() >= DEPTH_MAX {
            return Err("its type is made of too many others".to_owned());
        }
        self.known.insert(key, index);
        self.types.push(Type {
            name: name(layout),
            package: layout.package().to_string(),
            size: layout.size(),
            align: layout.alignment(),
            repr: format!("{:?}", layout.repr_attr()),
            tag: tag::describe(layout.tag()),
            extra_checks: layout.extra_checks().map(|it| format!("{it:?}")),
            kind: Kind::Primitive,
            markers: Vec::new(),
        });
        let depth = self.path.len();
        match self.kind(layout) {
            Ok(kind) => self.types[index].kind = kind,
            Err(_) if self.is_marker => self.path.truncate(depth),
            Err(why) => return Err(why),
        }
        self.types[index].markers = self.markers(layout)?;
        Ok(index)
    }

    /// The types that the description of a type names although its values do not contain them.
    fn markers(&mut self, layout: &'static TypeLayout) -> Result<Vec<Field>, String> {
        // The markers of a container are parts of its values. Other types of abi_stable keep theirs private.
        if is_of_abi_stable(layout) {
            return Ok(Vec::new());
        }
        let was_marker = std::mem::replace(&mut self.is_marker, true);
        let markers = self.fields(layout.phantom_fields().iter());
        self.is_marker = was_marker;
        markers
    }

    fn kind(&mut self, layout: &'static TypeLayout) -> Result<Kind, String> {
        if let Some(parameters) = container(layout) {
            self.has_containers |= !self.is_marker;
            let parameters = parameters.ok_or_else(|| self.refuse(layout))?;
            let parameters = parameters.iter().map(|parameter| self.visit(parameter));
            return Ok(Kind::Container(parameters.collect::<Result<_, _>>()?));
        }
        if matches!(layout.name(), "UnsafeCell" | "Cell") && layout.package().as_str() == "std" {
            return self.cell(layout);
        }
        let depth = self.path.len();
        let kind = match layout.data() {
            TLData::Primitive(TLPrimitive::Array) => {
                let mut elements = layout.phantom_fields().iter();
                let element = elements.next().ok_or_else(|| self.refuse(layout))?;
                Ok(Kind::Array(self.field(element)?.of))
            }
            TLData::Primitive(
                TLPrimitive::SharedRef
                | TLPrimitive::MutRef
                | TLPrimitive::ConstPtr
                | TLPrimitive::MutPtr,
            )
            | TLData::Opaque
            | TLData::PrefixType(_) => Err(self.refuse(layout)),
            TLData::Primitive(_) => Ok(Kind::Primitive),
            TLData::Struct { fields } => self.fields(fields.iter()).map(Kind::Struct),
            TLData::Union { fields } => self.fields(fields.iter()).map(Kind::Union),
            TLData::Enum(it) => self.variants(it),
        };
        // For other types of abi_stable, the name says more than the fields.
        let transparent =
            matches!(layout.name(), "ROption" | "RResult") || layout.name().starts_with("Tuple");
        if is_of_abi_stable(layout) && !transparent {
            return kind.map_err(|_| {
                self.path.truncate(depth);
                self.refuse(layout)
            });
        }
        kind
    }

    fn fields(&mut self, fields: impl Iterator<Item = TLField>) -> Result<Vec<Field>, String> {
        fields.map(|field| self.field(field)).collect()
    }

    fn field(&mut self, field: TLField) -> Result<Field, String> {
        self.path.push(field.name().to_owned());
        if field.is_function() || field.function_range().iter().next().is_some() {
            return Err(self.refuse_named("a function pointer"));
        }
        let of = self.visit(field.layout())?;
        self.path.pop();
        Ok(Field {
            name: field.name().to_owned(),
            of,
        })
    }

    /// A shared cell lets everyone replace its content. If the content is plain, that cannot bring in another
    /// plugin's code.
    fn cell(&mut self, layout: &'static TypeLayout) -> Result<Kind, String> {
        let fields = self.fields(fields(layout))?;
        for parameter in parameters(layout) {
            if !self.is_plain(parameter)? {
                let content = name(parameter);
                return Err(format!(
                    "{}`{content}` may be exchanged there for one of another plugin, which would not be kept; only \
                     plain data can be shared so",
                    place(&self.path)
                ));
            }
        }
        Ok(Kind::Struct(fields))
    }

    /// Whether a value in a cell consists of nothing but its bytes.
    fn is_plain(&self, content: &'static TypeLayout) -> Result<bool, String> {
        // A type that contains itself does so through a container.
        if self.around.contains(&ptr::from_ref(content)) {
            return Ok(false);
        }
        let mut around = self.around.clone();
        around.push(content);
        let walk = Self {
            around,
            ..Self::default()
        };
        Ok(walk.finish(content)?.is_plain())
    }

    fn variants(&mut self, it: TLEnum) -> Result<Kind, String> {
        let mut fields = it.fields.iter();
        let mut variants = Vec::new();
        for (name, count) in it.variant_names_iter().zip(it.field_count.iter()) {
            let fields = fields.by_ref().take(usize::from(*count));
            variants.push((name.to_owned(), self.fields(fields)?));
        }
        Ok(Kind::Enum {
            variants,
            discriminants: format!("{:?}", it.discriminants),
        })
    }

    fn refuse(&self, layout: &'static TypeLayout) -> String {
        self.refuse_named(format!("`{}`", name(layout)))
    }

    fn refuse_named(&self, what: impl Display) -> String {
        format!(
            "{}{what} may lead into the plugin when it has left the value; such a value cannot be kept",
            place(&self.path)
        )
    }
}

fn is_of_abi_stable(layout: &TypeLayout) -> bool {
    layout.package().as_str() == "abi_stable"
}

/// The parameters of a container of abi_stable that owns its content. `None` if it is no such container; `Some(None)`
/// if the parameters cannot be determined.
///
/// A derived layout does not list the parameters; they are found through the container's markers (abi_stable 0.11.3).
fn container(layout: &'static TypeLayout) -> Option<Option<Vec<&'static TypeLayout>>> {
    if !is_of_abi_stable(layout) {
        return None;
    }
    match layout.name() {
        "RString" => Some(Some(Vec::new())),
        "RVec" | "RBox" => Some(marked_with(layout, "_marker", 1)),
        "RHashMap" => {
            let map = fields(layout).find(|field| field.name() == "map");
            let erased = map.and_then(|map| marked_with(map.layout(), "_marker", 1));
            Some(erased.and_then(|erased| marked_with(erased[0], "field_0", 2)))
        }
        _ => None,
    }
}

/// The parameters of the `PhantomData` in this field.
fn marked_with(
    layout: &'static TypeLayout,
    field: &str,
    count: usize,
) -> Option<Vec<&'static TypeLayout>> {
    let marker = fields(layout).find(|it| it.name() == field)?.layout();
    let parameters = parameters(marker);
    (marker.name() == "PhantomData" && parameters.len() == count).then_some(parameters)
}

fn fields(layout: &'static TypeLayout) -> impl Iterator<Item = TLField> {
    let fields = match layout.data() {
        TLData::Struct { fields } => Some(fields),
        _ => None,
    };
    fields.into_iter().flat_map(|fields| fields.to_vec())
}

fn parameters(layout: &'static TypeLayout) -> Vec<&'static TypeLayout> {
    let parameters = layout.generics().type_params().iter();
    parameters.map(|parameter| parameter()).collect()
}

/// The type's name with the parameters that the description lists. A derived description lists only const parameters,
/// and of those only the values.
fn name(layout: &'static TypeLayout) -> String {
    let types = container(layout)
        .flatten()
        .unwrap_or_else(|| parameters(layout));
    let constants = layout.generics().const_params().iter();
    let constants = constants.map(|constant| format!("{constant:?}"));
    let parameters: Vec<String> = types.into_iter().map(name).chain(constants).collect();
    match (layout.data(), &parameters[..]) {
        (TLData::Primitive(TLPrimitive::Array), [element, length]) => {
            format!("[{element}; {length}]")
        }
        (_, []) => layout.name().to_owned(),
        (_, parameters) => format!("{}<{}>", layout.name(), parameters.join(", ")),
    }
}
