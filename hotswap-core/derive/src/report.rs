//! The attribute `#[report]`. From one definition of a type it generates the type's text, its form for programs, and
//! its fields for `tracing`.
//!
//! The type of a field decides the field's form, so that the same kind of value has the same form everywhere:
//!
//! | type | in text and for `tracing` | for programs |
//! |---|---|---|
//! | `PathBuf`, `String` | what a terminal does not show is escaped, line ends too | the same, but line ends stay |
//! | `Duration` | | whole microseconds, as `NAME_us` |
//! | `SystemTime` | | milliseconds since 1970, as `NAME_ms` |
//! | `Vec<T>` | separated by commas | a list |
//! | `Location`, `Refusal` | | text |
//! | `ErrorKind` | for `tracing` its name | |
//!
//! An `Option` of one of these has the same form. An empty cell, and every other type, uses `Display` and
//! `Serialize`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, Field, Fields, GenericArgument, LitStr,
    PathArguments, Result, Type, Variant,
    meta::ParseNestedMeta,
    parse::{Parse, ParseStream},
    parse_quote,
};

/// The options in the parentheses of `#[report(…)]`.
#[derive(Default)]
pub(crate) struct Options {
    /// For programs: the field that contains the name of the variant.
    tag: Option<LitStr>,
    /// For programs: the field that contains the fields of the variant. Without it, they stand beside the tag.
    content: Option<LitStr>,
    /// Whether to generate the functions of an event.
    is_event: bool,
    /// Whether the type says why something was refused. For programs, its variants then have names in snake case. Its
    /// text is then one line: line ends in fields that come from plugins and the system are replaced.
    is_error: bool,
}

impl Options {
    /// Reads one option.
    pub(crate) fn read(&mut self, option: &ParseNestedMeta<'_>) -> Result<()> {
        if option.path.is_ident("tag") {
            self.tag = Some(option.value()?.parse()?);
        } else if option.path.is_ident("content") {
            self.content = Some(option.value()?.parse()?);
        } else if option.path.is_ident("event") {
            self.is_event = true;
        } else if option.path.is_ident("error") {
            self.is_error = true;
        } else {
            return Err(option.error("expected `tag`, `content`, `event` or `error`"));
        }
        Ok(())
    }
}

pub(crate) fn expand(options: &Options, mut input: DeriveInput) -> Result<TokenStream> {
    let display = display(&input, options.is_error)?;
    let case = match options.is_error {
        true => Case::Snake,
        false => Case::Kebab,
    };
    let mut functions = TokenStream::new();
    if options.tag.is_some() {
        functions.extend(names(&input, case)?);
    }
    if options.is_event {
        functions.extend(event(&input)?);
    }
    if options.is_error {
        functions.extend(error(&input)?);
    }
    input.attrs.retain(|it| !is_ours(it));
    input
        .attrs
        .push(parse_quote!(#[derive(::serde::Serialize)]));
    if let Some(tag) = &options.tag {
        let case = case.name();
        input.attrs.push(match &options.content {
            None => parse_quote!(#[serde(tag = #tag, rename_all = #case)]),
            Some(content) => {
                parse_quote!(#[serde(tag = #tag, content = #content, rename_all = #case)])
            }
        });
    }
    match &mut input.data {
        Data::Struct(data) => data.fields.iter_mut().for_each(set_form),
        Data::Enum(data) => {
            for variant in &mut data.variants {
                variant.attrs.retain(|it| !is_ours(it));
                if options.is_error && !variant.fields.is_empty() {
                    variant.attrs.push(parse_quote!(#[non_exhaustive]));
                }
                variant.fields.iter_mut().for_each(set_form);
            }
        }
        Data::Union(_) => {}
    }
    Ok(quote!(#input #display #functions))
}

/// How the words of a variant's name are joined, for programs.
#[derive(Clone, Copy)]
enum Case {
    Kebab,
    Snake,
}

impl Case {
    /// The name of the case, as serde has it.
    fn name(self) -> &'static str {
        match self {
            Self::Kebab => "kebab-case",
            Self::Snake => "snake_case",
        }
    }

    /// The words of a name in camel case, joined.
    fn of(self, name: &Ident) -> String {
        let separator = match self {
            Self::Kebab => '-',
            Self::Snake => '_',
        };
        let mut words = String::new();
        for c in name.to_string().chars() {
            if c.is_ascii_uppercase() && !words.is_empty() {
                words.push(separator);
            }
            words.push(c.to_ascii_lowercase());
        }
        words
    }
}

fn is_ours(attribute: &Attribute) -> bool {
    let ours = ["text", "warn_if", "stage", "setting"];
    ours.iter().any(|name| attribute.path().is_ident(name))
}

/// The kind of a field, as its type shows it.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Path,
    Text,
    Duration,
    Time,
    List,
    Number,
    /// A type whose form for programs is its text.
    Displayed,
    /// The reason of a refusal.
    Reason,
    Other,
}

struct Form {
    kind: Kind,
    is_optional: bool,
}

impl Form {
    fn of(ty: &Type) -> Self {
        match argument(ty, "Option") {
            Some(inner) => Self {
                kind: Self::of(inner).kind,
                is_optional: true,
            },
            None => Self {
                kind: match last_name(ty).as_deref() {
                    Some("Location" | "Refusal") => Kind::Displayed,
                    Some("ErrorKind") => Kind::Reason,
                    Some("PathBuf") => Kind::Path,
                    Some("String") => Kind::Text,
                    Some("Duration") => Kind::Duration,
                    Some("SystemTime") => Kind::Time,
                    Some("Vec") => Kind::List,
                    Some("u8" | "u32" | "u64" | "usize" | "bool") => Kind::Number,
                    _ => Kind::Other,
                },
                is_optional: false,
            },
        }
    }

    /// The expression that shows the value `name`, which is a reference. In an error, `Text` stays as it is, because
    /// the whole text is escaped at the end.
    fn shown(&self, name: &Ident, is_error: bool) -> TokenStream {
        match self.kind {
            Kind::Path => quote!(crate::escape::Escaped(#name)),
            Kind::Text if !is_error => quote!(crate::report::Text(#name)),
            Kind::List => quote!(crate::report::List(#name)),
            Kind::Text
            | Kind::Duration
            | Kind::Time
            | Kind::Number
            | Kind::Displayed
            | Kind::Reason
            | Kind::Other => quote!(#name),
        }
    }

    /// The suffix of the field's name, for programs.
    fn unit(&self) -> &'static str {
        match self.kind {
            Kind::Duration => "_us",
            Kind::Time => "_ms",
            _ => "",
        }
    }
}

fn last_name(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => Some(path.path.segments.last()?.ident.to_string()),
        Type::Reference(reference) => last_name(&reference.elem),
        _ => None,
    }
}

/// The type `T` of `NAME<T>`.
fn argument<'a>(ty: &'a Type, name: &str) -> Option<&'a Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.first()? {
        GenericArgument::Type(ty) if last.ident == name => Some(ty),
        _ => None,
    }
}

/// Adds the attributes that give a field its form for programs.
fn set_form(field: &mut Field) {
    let form = Form::of(&field.ty);
    let function = match form.kind {
        Kind::Path => "path",
        Kind::Text => "text",
        Kind::Duration => "microseconds",
        Kind::Time => "milliseconds",
        Kind::Displayed => "display",
        Kind::List | Kind::Number | Kind::Reason | Kind::Other => return,
    };
    let module = if form.is_optional {
        "crate::report::optional"
    } else {
        "crate::report"
    };
    let function = format!("{module}::{function}");
    field
        .attrs
        .push(parse_quote!(#[serde(serialize_with = #function)]));
    if let Some(name) = &field.ident
        && !form.unit().is_empty()
    {
        let name = format!("{name}{}", form.unit());
        field.attrs.push(parse_quote!(#[serde(rename = #name)]));
    }
}

/// The text of a struct or of a variant: a format string, and the further values that it shows. A `[part]` of the
/// format string is left out when the field that it shows is `None`.
struct Text {
    template: LitStr,
    rest: TokenStream,
}

impl Parse for Text {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        Ok(Self {
            template: input.parse()?,
            rest: input.parse()?,
        })
    }
}

impl Text {
    fn of(attributes: &[Attribute]) -> Result<Option<Self>> {
        let ours = attributes.iter().find(|it| it.path().is_ident("text"));
        ours.map(Attribute::parse_args).transpose()
    }

    /// Generates the statements that write the text to `f`. The fields are bound by name, to references.
    fn write(&self, fields: &Fields, is_error: bool) -> Result<TokenStream> {
        let span = self.template.span();
        let text = self.template.value();
        let mut writes = TokenStream::new();
        let mut shown = Vec::new();
        for field in fields {
            let form = Form::of(&field.ty);
            if let Some(name) = &field.ident
                && !form.is_optional
            {
                let value = form.shown(name, is_error);
                shown.push(quote!(let #name = #value;));
            }
        }
        let rest = &self.rest;
        for (index, part) in text.split('[').enumerate() {
            let (section, plain) = match part.split_once(']') {
                Some((section, plain)) if index > 0 => (Some(section), plain),
                None if index == 0 => (None, part),
                _ => return Err(Error::new(span, "a `[` and a `]` each, not nested")),
            };
            if let Some(section) = section {
                writes.extend(optional(section, fields, span, is_error)?);
            }
            if !plain.is_empty() {
                // The further values belong to the part that has unnamed placeholders.
                let rest = plain.contains("{}").then_some(rest);
                let plain = LitStr::new(plain, span);
                writes.extend(quote!(::std::write!(f, #plain #rest)?;));
            }
        }
        // Use every field once, because not every text shows every field.
        let names = fields.iter().filter_map(|it| it.ident.as_ref());
        Ok(quote! {
            #(#shown)*
            let _ = (#(&#names,)*);
            #writes
            Ok(())
        })
    }
}

/// Generates a part of the text that is left out when the field that it shows is `None`.
fn optional(section: &str, fields: &Fields, span: Span, is_error: bool) -> Result<TokenStream> {
    let name = section
        .split_once('{')
        .and_then(|(_, rest)| rest.split(['}', ':']).next());
    let field = fields.iter().find(|it| {
        it.ident
            .as_ref()
            .is_some_and(|it| Some(it.to_string().as_str()) == name)
    });
    let Some((field, name)) = field.and_then(|it| Some((it, it.ident.as_ref()?))) else {
        return Err(Error::new(span, format!("`[{section}]` shows no field")));
    };
    let value = Form::of(&field.ty).shown(name, is_error);
    let section = LitStr::new(section, span);
    Ok(quote! {
        if let Some(#name) = #name {
            let #name = #value;
            ::std::write!(f, #section)?;
        }
    })
}

/// Generates `Display`, if there are texts.
fn display(input: &DeriveInput, is_error: bool) -> Result<TokenStream> {
    let body = match &input.data {
        Data::Struct(data) => {
            let Some(text) = Text::of(&input.attrs)? else {
                return Ok(TokenStream::new());
            };
            let names = data.fields.iter().filter_map(|it| it.ident.as_ref());
            let write = text.write(&data.fields, is_error)?;
            quote! {
                let Self { #(#names,)* } = self;
                #write
            }
        }
        Data::Enum(data) => {
            let mut arms = TokenStream::new();
            for variant in &data.variants {
                let Some(text) = Text::of(&variant.attrs)? else {
                    if arms.is_empty() {
                        return Ok(TokenStream::new());
                    }
                    return Err(Error::new(variant.ident.span(), "it has no text"));
                };
                let pattern = pattern(variant);
                let write = text.write(&variant.fields, is_error)?;
                arms.extend(quote!(#pattern => { #write }));
            }
            quote!(match self { #arms })
        }
        Data::Union(_) => return Ok(TokenStream::new()),
    };
    let body = match is_error {
        false => body,
        true => quote! {
            let mut text = ::std::string::String::new();
            let write = |f: &mut ::std::string::String| -> ::std::fmt::Result {
                use ::std::fmt::Write as _;
                #body
            };
            write(&mut text)?;
            f.write_str(&crate::escape::join_lines(&text))
        },
    };
    let name = &input.ident;
    Ok(quote! {
        impl ::std::fmt::Display for #name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                #body
            }
        }
    })
}

/// The pattern of a variant: `Self::Variant { field, … }`, or `Self::Variant(it)`.
fn pattern(variant: &Variant) -> TokenStream {
    let name = &variant.ident;
    match &variant.fields {
        Fields::Named(fields) => {
            let names = fields.named.iter().filter_map(|it| it.ident.as_ref());
            quote!(Self::#name { #(#names,)* })
        }
        Fields::Unnamed(_) => quote!(Self::#name(it)),
        Fields::Unit => quote!(Self::#name),
    }
}

/// Generates the names of the variants, as the tag has them.
fn names(input: &DeriveInput, case: Case) -> Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "what has a tag is an enum"));
    };
    let variants: Vec<_> = data.variants.iter().map(|it| &it.ident).collect();
    let names: Vec<_> = variants.iter().map(|it| case.of(it)).collect();
    let doc = format!(
        "The name of the variant in {}, as programs see it. It is stable.",
        case.name()
    );
    let name = &input.ident;
    Ok(quote! {
        impl #name {
            /// The [name](Self::name) of each variant, in the order of their declaration.
            pub const NAMES: &'static [&'static str] = &[#(#names),*];

            #[doc = #doc]
            pub fn name(&self) -> &'static str {
                match self { #(Self::#variants { .. } => #names,)* }
            }
        }
    })
}

/// Generates the report of an event to `tracing`.
fn event(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "an event is an enum"));
    };
    let mut arms = TokenStream::new();
    for variant in &data.variants {
        let name = Case::Kebab.of(&variant.ident);
        let fields = variant.fields.iter().filter_map(traced);
        let fields = quote!(#(#fields,)*);
        let tell = |level: &str| {
            let level = format_ident!("{level}");
            quote! {
                ::tracing::event!(
                    target: "hotswap", ::tracing::Level::#level,
                    generation = about.generation, version = version.as_deref(),
                    build_id = about.build_id.as_deref(), sha256 = sha256.as_deref(), #fields #name
                )
            }
        };
        let (warn, info) = (tell("WARN"), tell("INFO"));
        let warns = variant
            .attrs
            .iter()
            .find(|it| it.path().is_ident("warn_if"));
        let tell = match warns {
            None => info,
            Some(condition) => {
                let condition: TokenStream = condition.parse_args()?;
                if condition.to_string() == "true" {
                    warn
                } else {
                    quote!(if #condition { #warn } else { #info })
                }
            }
        };
        let pattern = pattern(variant);
        arms.extend(quote!(#pattern => { #tell; }));
    }
    let name = &input.ident;
    Ok(quote! {
        impl #name {
            /// Reports the event to the subscribers of `tracing`.
            pub(super) fn trace(&self, about: &Event) {
                let version = about.version.as_deref().map(crate::escape::one_line);
                let sha256 = about.sha256.map(|it| it.to_string());
                match self { #arms }
            }
        }
    })
}

/// The `name = value` of a field, for `tracing`.
fn traced(field: &Field) -> Option<TokenStream> {
    let name = field.ident.as_ref()?;
    let form = Form::of(&field.ty);
    let key = format_ident!("{name}{}", form.unit());
    let shown = form.shown(name, false);
    Some(match (form.kind, form.is_optional) {
        (Kind::Number, _) => quote!(#key = *#name),
        (Kind::Duration, false) => quote!(#key = crate::report::in_microseconds(*#name)),
        (Kind::Duration, true) => quote!(#key = #name.map(crate::report::in_microseconds)),
        (Kind::Time, _) => return None,
        (Kind::Reason, false) => quote!(#key = %#name.name()),
        (_, false) => quote!(#key = %#shown),
        (_, true) => quote!(#key = #name.as_ref().map(|#name| ::tracing::field::display(#shown))),
    })
}

/// Generates the functions of an error: its stage and its setting, if its variants say so.
fn error(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "an error is an enum"));
    };
    let (mut stages, mut settings) = (TokenStream::new(), TokenStream::new());
    for variant in &data.variants {
        stages.extend(arm(variant, "stage")?);
        settings.extend(arm(variant, "setting")?);
    }
    let stage = (!stages.is_empty()).then(|| {
        quote! {
            /// The stage at which a candidate is refused for it.
            pub(crate) fn stage(&self) -> Stage {
                use Stage::*;
                match self { #stages }
            }
        }
    });
    let setting = (!settings.is_empty()).then(|| {
        quote! {
            /// The name of the setting that decides it.
            pub(super) fn setting(&self) -> Option<&'static str> {
                match self {
                    #settings
                    _ => None,
                }
            }
        }
    });
    let name = &input.ident;
    Ok(quote! {
        impl #name {
            #stage
            #setting
        }
    })
}

/// The arm of a variant that has this attribute, whose value is the attribute's expression. The fields are bound by
/// name, to references. A text stands for `Some` of it.
fn arm(variant: &Variant, attribute: &str) -> Result<Option<TokenStream>> {
    let mut attributes = variant.attrs.iter();
    let Some(attribute) = attributes.find(|it| it.path().is_ident(attribute)) else {
        return Ok(None);
    };
    let value: Expr = attribute.parse_args()?;
    let value = match value {
        Expr::Lit(text) => quote!(Some(#text)),
        value => quote!(#value),
    };
    let pattern = pattern(variant);
    let names = variant.fields.iter().filter_map(|it| it.ident.as_ref());
    // Use every field once, because few of these expressions use one.
    Ok(Some(quote!(#pattern => { let _ = (#(&#names,)*); #value })))
}
