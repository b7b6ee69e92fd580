//! Checks that a description of a type can be followed without harm.
//!
//! abi_stable describes a type by structures that lie in the plugin's image and point to each other. It follows every
//! pointer and trusts every length and tag, so one flipped bit ends the process. [`check`] goes over everything that
//! abi_stable will read, before abi_stable does:
//!
//! - A pointer is aligned, and all bytes that are read at it lie in one readable segment of the image.
//! - A function that is called begins in an executable segment of the image.
//! - A tag, a bool and an alignment have values that are valid for their types. A text is UTF-8. A range lies inside
//!   the table that it refers to.
//! - No type is a parameter of itself, because abi_stable writes a type's name together with its parameters.
//!
//! Two kinds of damage go unnoticed. The code of a function that returns a description may be damaged, and it is
//! called. And only the plugin knows the values that its own checks of types (`#[sabi(extra_checks)]`) read.
//!
//! The structures are private to abi_stable; [`mod@format`] repeats them.

mod from_bytes;

mod format;
#[expect(unsafe_code, reason = "calls the functions that give descriptions")]
mod reader;

#[cfg(test)]
#[expect(
    unsafe_code,
    dead_code,
    non_local_definitions,
    reason = "types that are only described, and what abi_stable derives for them"
)]
mod tests;

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    fmt,
};

pub(super) use self::format::Object;
use self::{
    format::{
        ConstVtable, Constant, EnumData, ExtraChecks, ExtraVtable, Fields, Function, Functions,
        Header, LockVtable, MonoType, ObjectVtable, PrefixData, Shared, StartLen, Strings, Tag,
        TypeData,
    },
    reader::{Memory, Reader, offset, require},
};
use crate::image::Image;

/// A description contains a value that it cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its description of its types is damaged")
    }
}

/// No interface consists of more types.
const TYPES_MAX: usize = 100_000;
/// How deeply tags may be nested, and how many there may be in all, which abi_stable compares one by one. Several may
/// contain the same ones: so a small file can have more than anybody can visit.
const TAG_DEPTH_MAX: usize = 64;
const TAGS_MAX: usize = 100_000;

/// Checks the description at `address`, and the descriptions of all types that it mentions.
pub(super) fn check(image: &Image, address: usize) -> Result<(), Damaged> {
    Walk::over(image, address)
}

/// Checks what abi_stable reads and calls from the header of a root module at `address`, except the description.
pub(crate) fn check_header(image: &Image, address: usize) -> Result<(), Damaged> {
    Walk::new(image).header(address)
}

struct Walk<'a, M> {
    reader: Reader<'a, M>,
    /// The checked descriptions, each with the types that are its parameters.
    seen: HashMap<usize, Vec<usize>>,
    /// The descriptions that are not checked yet.
    waiting: Vec<usize>,
    tags: Cell<usize>,
}

/// The tables to which the ranges in the description of one type refer.
struct Tables {
    texts: String,
    /// The descriptions that the functions in the table return.
    types: Vec<usize>,
    lifetimes: usize,
    constants: usize,
}

impl<'a, M: Memory> Walk<'a, M> {
    fn new(memory: &'a M) -> Self {
        Self {
            reader: Reader(memory),
            seen: HashMap::new(),
            waiting: Vec::new(),
            tags: Cell::new(0),
        }
    }

    fn over(memory: &'a M, address: usize) -> Result<(), Damaged> {
        let mut walk = Self::new(memory);
        walk.waiting.push(address);
        while let Some(address) = walk.waiting.pop() {
            if walk.seen.contains_key(&address) {
                continue;
            }
            require(walk.seen.len() < TYPES_MAX)?;
            let parameters = walk.type_at(address)?;
            walk.seen.insert(address, parameters);
        }
        walk.no_type_is_its_own_parameter()
    }

    fn header(&self, address: usize) -> Result<(), Damaged> {
        let header: Header = self.reader.item(address)?;
        for text in [header.base_name, header.name, header.version] {
            self.reader.text(text)?;
        }
        if header.layout.tag == Header::LAYOUT {
            // `check` checks the description itself.
            require(self.reader.0.read(header.layout.description, &mut []))?;
        } else {
            require(header.layout.tag == Header::NO_LAYOUT)?;
        }
        for index in 0..Header::ABI_TESTS {
            self.reader.code(self.reader.item::<usize>(offset(
                header.abi_tests,
                index,
                size_of::<usize>(),
            )?)?)?;
        }
        self.reader.code(header.init_globals)?;
        self.reader.code(header.constructor)?;
        if header.module != 0 {
            self.reader.item::<usize>(header.module)?;
        }
        let lock: LockVtable = self.reader.vtable(header.lock_vtable())?;
        lock.functions
            .into_iter()
            .try_for_each(|it| self.reader.code(it))
    }

    /// Checks one description, and returns the types that are its parameters.
    fn type_at(&mut self, address: usize) -> Result<Vec<usize>, Damaged> {
        let described: format::Type = self.reader.item(address)?;
        require(described.is_nonzero <= 1)?;
        described.alignment()?;
        self.reader.code(described.type_id)?;
        if described.tag != 0 {
            self.tag(described.tag, 0)?;
        }
        if described.extra_checks != 0 {
            self.extra_checks(described.extra_checks)?;
        }
        let shared: Shared = self.reader.item(described.shared)?;
        let strings: Strings = self.reader.item(shared.strings)?;
        let mono: MonoType = self.reader.item(described.mono)?;
        if mono.strings != strings {
            self.strings(mono.strings)?;
        }
        let tables = self.tables(&shared, strings)?;
        self.reader.text(mono.name())?;
        self.reader.text(mono.package)?;
        self.reader.terminated(mono.module)?;
        require(mono.repr.is_valid())?;
        require(mono.reflection_tag <= MonoType::REFLECTION_TAG_MAX)?;
        self.fields(mono.phantom_fields(), &tables)?;
        self.data(&mono.data, &described.data, &tables)?;

        let generics = mono.generics;
        self.reader.terminated(generics.lifetimes)?;
        require(generics.constants.is_inside(tables.constants))?;
        let parameters = tables.types.get(generics.types.range());
        parameters.map(<[usize]>::to_vec).ok_or(Damaged)
    }

    fn tables(&mut self, shared: &Shared, strings: Strings) -> Result<Tables, Damaged> {
        let (texts, lifetimes) = self.strings(strings)?;
        let functions: Vec<usize> = self.reader.items(shared.types, shared.types_len)?;
        let constants: Vec<Constant> = self.reader.items(shared.constants, shared.constants_len)?;
        let types = functions.into_iter().map(|it| self.reader.describing(it));
        let types: Vec<usize> = types.collect::<Result<_, _>>()?;
        self.waiting.extend(&types);
        for constant in &constants {
            self.constant(*constant)?;
        }
        Ok(Tables {
            texts,
            types,
            lifetimes,
            constants: constants.len(),
        })
    }

    /// Checks the strings. Returns the text, and the number of lifetimes.
    fn strings(&self, strings: Strings) -> Result<(String, usize), Damaged> {
        let lifetimes: Vec<u8> = self
            .reader
            .items(strings.lifetimes, strings.lifetimes_len)?;
        Ok((self.reader.text(strings.text())?, lifetimes.len()))
    }

    /// Checks a const parameter, and the functions that compare and print it.
    fn constant(&mut self, constant: Constant) -> Result<(), Damaged> {
        let vtable: ConstVtable = self.reader.vtable(constant.vtable)?;
        self.reader.code(vtable.equal)?;
        self.reader.code(vtable.debug)?;
        let of: format::Type = self.reader.item(vtable.layout)?;
        self.waiting.push(vtable.layout);
        self.reader.value(constant.value, of.size, of.alignment()?)
    }

    fn data(
        &self,
        mono: &format::MonoData,
        generic: &TypeData,
        tables: &Tables,
    ) -> Result<(), Damaged> {
        require(generic.tag == u32::from(mono.tag))?;
        match mono.tag {
            format::PRIMITIVE => require(mono.primitive <= format::PRIMITIVE_MAX),
            format::OPAQUE => Ok(()),
            format::STRUCT | format::UNION => self.fields(mono.fields(), tables),
            format::ENUM => self.enumeration(mono.enumeration(), generic, tables),
            format::PREFIX => {
                let PrefixData {
                    first_suffix_field,
                    fields,
                    ..
                } = mono.prefix();
                require(u16::from(first_suffix_field) <= fields.len)?;
                self.fields(fields, tables)
            }
            _ => Err(Damaged),
        }
    }

    fn enumeration(
        &self,
        it: EnumData,
        generic: &TypeData,
        tables: &Tables,
    ) -> Result<(), Damaged> {
        let counts: Vec<u8> = self.reader.items(it.field_counts, it.field_counts_len)?;
        let all: usize = counts.iter().map(|count| usize::from(*count)).sum();
        require(all == usize::from(it.fields.len))?;
        part(&tables.texts, it.variant_names)?;
        self.fields(it.fields, tables)?;
        if generic.non_exhaustive != 0 {
            let original: format::NonExhaustive = self.reader.item(generic.non_exhaustive)?;
            require(u32::from(original.alignment_power) < usize::BITS)?;
        }
        let bytes = format::DISCRIMINANT_BYTES.get(usize::from(generic.discriminants_tag));
        let bytes = *bytes.ok_or(Damaged)?;
        require(generic.discriminants.is_multiple_of(bytes))?;
        self.reader.bytes(
            generic.discriminants,
            usize::from(generic.discriminants_len) * bytes,
        )?;
        Ok(())
    }

    fn fields(&self, fields: Fields, tables: &Tables) -> Result<(), Damaged> {
        let all: Vec<format::Field> = self.reader.items(fields.first, fields.len)?;
        for field in &all {
            part(&tables.texts, field.name())?;
            require(field.type_index() < tables.types.len())?;
            require(field.lifetimes().is_inside(tables.lifetimes))?;
        }
        if fields.functions == 0 {
            return Ok(());
        }
        let of: Functions = self.reader.item(fields.functions)?;
        let functions: Vec<Function> = self.reader.items(of.first, of.len)?;
        let ranges: Vec<StartLen> = self.reader.items(of.ranges, of.ranges_len)?;
        for range in ranges {
            require(range.is_inside(functions.len()))?;
        }
        for function in functions {
            part(&tables.texts, function.name)?;
            for text in function.texts() {
                tables.texts.get(text).ok_or(Damaged)?;
            }
            require(function.lifetimes().is_inside(tables.lifetimes))?;
            require(function.parameters_are_inside(tables.types.len()))?;
        }
        Ok(())
    }

    fn tag(&self, address: usize, depth: usize) -> Result<(), Damaged> {
        self.tags.set(self.tags.get() + 1);
        require(depth < TAG_DEPTH_MAX && self.tags.get() <= TAGS_MAX)?;
        let tag: Tag = self.reader.item(address)?;
        let each = |count: usize| {
            for index in 0..count {
                self.tag(offset(tag.first, index, size_of::<Tag>())?, depth + 1)?;
            }
            Ok(())
        };
        match tag.variant {
            Tag::PRIMITIVE => match tag.primitive() {
                (Tag::BOOL, value) => require(value <= 1),
                (Tag::TEXT, _) => self.reader.text(tag.text()).map(drop),
                (primitive, _) => require(primitive <= Tag::PRIMITIVE_MAX),
            },
            Tag::IGNORED => each(1),
            Tag::ARRAY | Tag::SET => each(tag.second),
            // Each entry is a key and a value.
            Tag::MAP => each(tag.second.checked_mul(2).ok_or(Damaged)?),
            _ => Err(Damaged),
        }
    }

    fn extra_checks(&self, address: usize) -> Result<(), Damaged> {
        let checks: ExtraChecks = self.reader.item(address)?;
        let vtable: ExtraVtable = self.reader.vtable(checks.vtable)?;
        vtable
            .methods
            .into_iter()
            .try_for_each(|it| self.reader.code(it))?;
        let object: ObjectVtable = self.reader.vtable(vtable.object)?;
        self.reader.code(object.type_id)?;
        self.reader.code(object.drop)?;
        let optional = [object.clone, object.debug, object.display];
        let mut optional = optional.into_iter().filter(|function| *function != 0);
        optional.try_for_each(|function| self.reader.code(function))?;
        self.reader.unknown_value(checks.value)
    }

    fn no_type_is_its_own_parameter(&self) -> Result<(), Damaged> {
        let mut finished = HashSet::new();
        for &start in self.seen.keys() {
            let mut path: Vec<(usize, usize)> = vec![(start, 0)];
            let mut on_path = HashSet::from([start]);
            while let Some((address, next)) = path.last_mut() {
                let address = *address;
                let parameter = self.seen.get(&address).and_then(|all| all.get(*next));
                *next += 1;
                match parameter {
                    None => {
                        path.pop();
                        on_path.remove(&address);
                        finished.insert(address);
                    }
                    Some(parameter) if finished.contains(parameter) => {}
                    Some(parameter) => {
                        require(on_path.insert(*parameter))?;
                        path.push((*parameter, 0));
                    }
                }
            }
        }
        Ok(())
    }
}

fn part(texts: &str, range: StartLen) -> Result<&str, Damaged> {
    texts.get(range.range()).ok_or(Damaged)
}
