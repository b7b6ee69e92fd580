//! `#[data]`.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, Fields, GenericParam, Member, Result, Token, Type,
    ext::IdentExt, parse_quote, spanned::Spanned,
};

use crate::{
    call::{called, check_attributes, item_of},
    types::{Position, check_type},
};

/// A struct, or a variant of an enum.
struct Record {
    /// Its path in code.
    path: TokenStream,
    /// Its name in the description.
    name: String,
    /// Its index among the variants; 0 for a struct.
    number: usize,
    fields: Vec<Field>,
}

struct Field {
    member: Member,
    ty: Type,
    default: Option<TokenStream>,
}

pub(crate) fn expand(mut input: DeriveInput) -> Result<TokenStream> {
    for parameter in &input.generics.params {
        if let GenericParam::Lifetime(lifetime) = parameter {
            let what = "what is sent borrows nothing: write owned types";
            return Err(Error::new(lifetime.span(), what));
        }
    }
    let name = input.ident.clone();
    let mut other = None;
    let mut records = Vec::new();
    match &mut input.data {
        Data::Struct(data) => {
            let fields = fields(&mut data.fields)?;
            records.push(Record {
                path: quote!(#name),
                name: name.unraw().to_string(),
                number: 0,
                fields,
            });
        }
        Data::Enum(data) => {
            if data.variants.is_empty() {
                let what = "an enum without variants cannot be sent: it has no values";
                return Err(Error::new(name.span(), what));
            }
            for variant in &mut data.variants {
                let ident = &variant.ident;
                check_attributes(&variant.attrs)?;
                if let Some(option) = take_option(&mut variant.attrs)? {
                    if !option.is_other || !matches!(variant.fields, Fields::Unit) {
                        let what = "`#[data(other)]` marks a variant without fields";
                        return Err(Error::new(option.span, what));
                    }
                    if other.replace(ident.clone()).is_some() {
                        let what = "only one variant stands for all others";
                        return Err(Error::new(option.span, what));
                    }
                    continue;
                }
                let fields = fields(&mut variant.fields)?;
                records.push(Record {
                    path: quote!(#name::#ident),
                    name: ident.unraw().to_string(),
                    number: records.len(),
                    fields,
                });
            }
        }
        Data::Union(data) => {
            let what = "a union cannot be sent: which of its fields is meant is not known";
            return Err(Error::new(data.union_token.span(), what));
        }
    }
    let is_enum = matches!(input.data, Data::Enum(_));
    let expansion = Expansion {
        input: &input,
        records: &records,
        other: other.as_ref(),
    };
    let with_fields = records
        .iter()
        .filter(|it| !is_enum || !it.fields.is_empty());
    let tables = with_fields.map(|it| expansion.table(it));
    let data = match is_enum {
        false => expansion.struct_impl(&records[0]),
        true => expansion.enum_impl(),
    };
    let by_value = expansion.by_value_impl();
    Ok(quote! {
        #input

        #[allow(
            deprecated,
            clippy::multiple_bound_locations,
            reason = "whoever uses what is deprecated is told, and not whoever defines it; bounds are added to the author's own"
        )]
        const _: () = {
            #(#tables)*
            #data
            #by_value
        };
    })
}

struct Expansion<'a> {
    input: &'a DeriveInput,
    records: &'a [Record],
    other: Option<&'a Ident>,
}

impl Expansion<'_> {
    /// The generics, with the bound that each type parameter is `Data`.
    fn generics(&self) -> syn::Generics {
        let mut generics = self.input.generics.clone();
        let types: Vec<_> = generics.type_params().map(|it| it.ident.clone()).collect();
        let clause = generics.make_where_clause();
        for ty in types {
            let bound = parse_quote!(#ty: ::hotswap_sdk::expansion::Data);
            clause.predicates.push(bound);
        }
        generics
    }

    /// The C struct of the views of the fields, and the functions that write and read it.
    fn table(&self, record: &Record) -> TokenStream {
        let generics = self.generics();
        let (impl_generics, type_generics, clause) = generics.split_for_impl();
        let turbofish = type_generics.as_turbofish();
        let name = &self.input.ident;
        let (table, write_fields, read) = record.names();
        let path = &record.path;
        let count = Literal::u32_unsuffixed(u32::try_from(record.fields.len()).unwrap_or(u32::MAX));
        let slots: Vec<_> = (0..record.fields.len())
            .map(|number| format_ident!("field_{number}"))
            .collect();
        let members: Vec<_> = record.fields.iter().map(|it| &it.member).collect();
        let views: Vec<_> = record
            .fields
            .iter()
            .zip(&slots)
            .map(|(field, slot)| field.call("view", &quote!(#slot)))
            .collect();
        let numbers: Vec<_> = (0u32..)
            .take(slots.len())
            .map(Literal::u32_unsuffixed)
            .collect();
        let irrefutable = match self.records.len() + usize::from(self.other.is_some()) {
            1 => quote!(let #path { #(#members: #slots),* } = value;),
            _ => quote!(let #path { #(#members: #slots),* } = value else { return 0 };),
        };
        // The C struct is generic over the views, so that no field's type is in it: the compiler's error about a type
        // that cannot be sent is one, at the field.
        let view_types: Vec<_> = numbers
            .iter()
            .map(|it| format_ident!("__View{}", it.to_string()))
            .collect();
        let inferred: Vec<_> = slots.iter().map(|_| quote!(_)).collect();
        let values = record
            .fields
            .iter()
            .zip(&slots)
            .zip(&numbers)
            .enumerate()
            .map(|(index, ((field, slot), number))| {
                let Field {
                    member, default, ..
                } = field;
                let view = quote!(::core::ptr::read(&raw const (*fields).#slot), context);
                let read = field.call("read", &view);
                let read = quote! {
                    // SAFETY: the other side has written this view: either `written` says so, or the field has no
                    // default, and then the comparison of the descriptions has found it on the other side. The value
                    // that is viewed stays unchanged during this call (`# Safety` of this function).
                    unsafe { #read }?
                };
                match default {
                    None => quote!(#member: #read),
                    Some(_) => {
                        let default = record.default_fn(index);
                        quote! {
                            #member: if written > #number { #read } else { #default #turbofish() }
                        }
                    }
                }
            });
        // Functions of their own, because the author's expressions must not be in an unsafe function, nor see its
        // variables.
        let defaults = record.fields.iter().zip(0..).filter_map(|(field, index)| {
            let Field { ty, default, .. } = field;
            let function = record.default_fn(index);
            let default = default.as_ref()?;
            Some(quote! {
                fn #function #impl_generics() -> #ty #clause {
                    #default
                }
            })
        });
        quote! {
            #[repr(C)]
            struct #table<#(#view_types),*> {
                #(#slots: #view_types,)*
            }

            #(#defaults)*

            #[allow(unused_variables, reason = "without fields")]
            unsafe extern "C" fn #write_fields #impl_generics(
                value: *const (),
                fields: *mut (),
                count: u32,
            ) -> u32 #clause {
                // SAFETY: this function is used with a view of such a value, which is neither changed nor dropped
                // during the call (contract of `WriteFieldsFn`).
                let value = unsafe { &*value.cast::<#name #type_generics>() };
                #irrefutable
                let fields = fields.cast::<#table<#(#inferred),*>>();
                if count >= #count {
                    let all = #table {
                        #(#slots: #views,)*
                    };
                    // SAFETY: the reader has room for the first `count` views, of which these are the beginning: in a C
                    // struct, fields that follow do not move those before them.
                    unsafe { fields.write(all) };
                    return #count;
                }
                #(
                    if count > #numbers {
                        // SAFETY: the reader has room for the first `count` views, of which this is one. Its offset is
                        // the same in a C struct without the fields that follow.
                        unsafe {
                            ::core::ptr::write(&raw mut (*fields).#slots, #views);
                        }
                    }
                )*
                count
            }

            /// # Safety
            ///
            /// The view is of the fields of a value of this type, or in this variant, on either side, or in a
            /// compatible version of it. The value is neither changed nor dropped during the call.
            #[allow(unused_variables, reason = "without fields")]
            unsafe fn #read #impl_generics(
                view: ::hotswap_sdk::expansion::RecordView,
                context: ::hotswap_sdk::expansion::ReadContext<'_>,
            ) -> ::core::result::Result<#name #type_generics, ::hotswap_sdk::expansion::ReadError> #clause {
                let context = context.deeper()?;
                let mut fields = ::core::mem::MaybeUninit::<#table<#(#inferred),*>>::uninit();
                // SAFETY: the view is of such a value, which stays unchanged during this call (`# Safety` of this
                // function). The C struct has room for the views of all fields of this version, which are the first
                // ones of a newer version.
                let written = unsafe { view.write_fields(fields.as_mut_ptr(), #count) };
                let fields = fields.as_ptr();
                ::core::result::Result::Ok(#path { #(#values),* })
            }
        }
    }

    /// Keeps the compiler from listing the author's types beside one that cannot be sent. A generic type must be in
    /// such an error, which is about one of its arguments.
    fn not_recommended(&self) -> Option<TokenStream> {
        let is_generic = self.input.generics.type_params().next().is_some();
        (!is_generic).then(|| quote!(#[diagnostic::do_not_recommend]))
    }

    fn struct_impl(&self, record: &Record) -> TokenStream {
        let generics = self.generics();
        let (impl_generics, type_generics, clause) = generics.split_for_impl();
        let not_recommended = self.not_recommended();
        let turbofish = type_generics.as_turbofish();
        let ident = &self.input.ident;
        let (_, write_fields, read) = record.names();
        let name = &record.name;
        let fields = record.described();
        quote! {
            // SAFETY: `View` and `Slice` are `repr(C)` and those of every struct. `view` gives this value and the
            // function that writes the views of its fields, which `describe` lists in the same order.
            #not_recommended
            #[automatically_derived]
            unsafe impl #impl_generics ::hotswap_sdk::expansion::Data for #ident #type_generics #clause {
                type View = ::hotswap_sdk::expansion::RecordView;
                type Slice = ::hotswap_sdk::expansion::RecordSlice;

                #[inline]
                fn view(&self) -> Self::View {
                    ::hotswap_sdk::expansion::RecordView::new(self, #write_fields #turbofish)
                }

                #[inline]
                unsafe fn read(
                    view: Self::View,
                    context: ::hotswap_sdk::expansion::ReadContext<'_>,
                ) -> ::core::result::Result<Self, ::hotswap_sdk::expansion::ReadError> {
                    // SAFETY: `view` is of such a value, which stays unchanged during this call (`# Safety` of this
                    // function).
                    unsafe { #read #turbofish(view, context) }
                }

                fn describe(
                    types: &mut ::hotswap_sdk::expansion::Types,
                ) -> ::hotswap_sdk::expansion::TypeIndex {
                    types.structure::<Self>(#name, |types| #fields)
                }
            }

            // SAFETY: the function writes the views of the fields of this type.
            #[automatically_derived]
            unsafe impl #impl_generics ::hotswap_sdk::expansion::Record for #ident #type_generics #clause {
                const WRITE_FIELDS: ::hotswap_sdk::expansion::WriteFieldsFn = #write_fields #turbofish;
            }
        }
    }

    fn enum_impl(&self) -> TokenStream {
        let generics = self.generics();
        let (impl_generics, type_generics, clause) = generics.split_for_impl();
        let not_recommended = self.not_recommended();
        let turbofish = type_generics.as_turbofish();
        let ident = &self.input.ident;
        let name = ident.unraw().to_string();
        let views = self.records.iter().map(|record| {
            let path = &record.path;
            let number = record.literal();
            let write_fields = match record.fields.is_empty() {
                true => quote!(::hotswap_sdk::expansion::no_fields),
                false => {
                    let (_, write_fields, _) = record.names();
                    quote!(#write_fields #turbofish)
                }
            };
            quote!(#path { .. } => (#number, #write_fields as ::hotswap_sdk::expansion::WriteFieldsFn))
        });
        let other_view = self.other.iter().map(|other| {
            quote! {
                #ident::#other => (
                    ::hotswap_sdk::expansion::VariantView::OTHER,
                    ::hotswap_sdk::expansion::no_fields as ::hotswap_sdk::expansion::WriteFieldsFn,
                )
            }
        });
        let read = self.records.iter().map(|record| {
            let number = record.literal();
            let path = &record.path;
            let (_, _, read) = record.names();
            match record.fields.is_empty() {
                true => quote!(#number => ::core::result::Result::Ok(#path {})),
                false => quote! {
                    // SAFETY: `view` is of a value in the variant with this index, which stays unchanged during this
                    // call (`# Safety` of this function). The comparison of the descriptions has found the variant to
                    // be the same on both sides.
                    #number => unsafe { #read #turbofish(view.fields, context) }
                },
            }
        });
        let unknown = match self.other {
            Some(other) => quote!(::core::result::Result::Ok(#ident::#other)),
            None => quote! {
                ::core::result::Result::Err(
                    ::hotswap_sdk::expansion::ReadError::variant(#name, index),
                )
            },
        };
        let variants = self.records.iter().map(|record| {
            let name = &record.name;
            let fields = record.described();
            quote!((::std::string::String::from(#name), #fields))
        });
        quote! {
            // SAFETY: `View` and `Slice` are `repr(C)` and those of every enum. `view` gives the variant's index, this
            // value, and the function that writes the views of the variant's fields. `describe` lists variants and
            // fields in the same order.
            #not_recommended
            #[automatically_derived]
            unsafe impl #impl_generics ::hotswap_sdk::expansion::Data for #ident #type_generics #clause {
                type View = ::hotswap_sdk::expansion::VariantView;
                type Slice = ::hotswap_sdk::expansion::IndirectSlice<Self::View>;

                #[inline]
                fn view(&self) -> Self::View {
                    let (index, write_fields) = match self { #(#views,)* #(#other_view,)* };
                    let fields = ::hotswap_sdk::expansion::RecordView::new(self, write_fields);
                    ::hotswap_sdk::expansion::VariantView { index, fields }
                }

                #[inline]
                unsafe fn read(
                    view: Self::View,
                    context: ::hotswap_sdk::expansion::ReadContext<'_>,
                ) -> ::core::result::Result<Self, ::hotswap_sdk::expansion::ReadError> {
                    match view.index {
                        #(#read,)*
                        index => #unknown,
                    }
                }

                fn describe(
                    types: &mut ::hotswap_sdk::expansion::Types,
                ) -> ::hotswap_sdk::expansion::TypeIndex {
                    types.enumeration::<Self>(#name, |types| ::std::vec![#(#variants),*])
                }
            }
        }
    }

    fn by_value_impl(&self) -> TokenStream {
        let generics = self.generics();
        let (impl_generics, type_generics, clause) = generics.split_for_impl();
        let not_recommended = self.not_recommended();
        let ident = &self.input.ident;
        let predicates = clause.map(|it| &it.predicates);
        quote! {
            ::hotswap_sdk::by_value_data! {
                #not_recommended
                #[automatically_derived]
                [#impl_generics] #ident #type_generics where [#predicates]
            }
        }
    }
}

impl Field {
    /// A call of a function of its type's `Data`.
    fn call(&self, function: &str, arguments: &TokenStream) -> TokenStream {
        called(&self.ty, &item_of(&self.ty, "Data", function), arguments)
    }
}

impl Record {
    /// The names of the C struct of its views, and of the functions that write and read that.
    fn names(&self) -> (Ident, Ident, Ident) {
        let number = self.number;
        (
            format_ident!("__Fields{number}"),
            format_ident!("__write_fields_{number}"),
            format_ident!("__read_{number}"),
        )
    }

    /// The name of the function that returns the default of a field.
    fn default_fn(&self, field: usize) -> Ident {
        format_ident!("__default_{}_{field}", self.number)
    }

    fn literal(&self) -> Literal {
        Literal::u32_unsuffixed(u32::try_from(self.number).unwrap_or(u32::MAX))
    }

    fn described(&self) -> TokenStream {
        let fields = self.fields.iter().map(|field| {
            let Field {
                member, default, ..
            } = field;
            let described = field.call("describe", &quote!(types));
            let name = match member {
                Member::Named(name) => name.unraw().to_string(),
                Member::Unnamed(index) => index.index.to_string(),
            };
            let has_default = default.is_some();
            quote! {
                ::hotswap_sdk::expansion::Field {
                    name: ::std::string::String::from(#name),
                    ty: #described,
                    has_default: #has_default,
                }
            }
        });
        quote!(::std::vec![#(#fields),*])
    }
}

fn fields(fields: &mut Fields) -> Result<Vec<Field>> {
    let mut found: Vec<Field> = Vec::new();
    for (index, field) in fields.iter_mut().enumerate() {
        check_type(&field.ty, Position::Field)?;
        check_attributes(&field.attrs)?;
        let option = take_option(&mut field.attrs)?;
        if let Some(option) = option.as_ref().filter(|it| it.is_other) {
            let what = "`#[data(other)]` marks a variant; a field has `#[data(default)]`";
            return Err(Error::new(option.span, what));
        }
        let default = option.map(|it| it.default);
        if default.is_none() && found.last().is_some_and(|it| it.default.is_some()) {
            let what =
                "fields with `#[data(default)]` stand at the end, where newer versions add them";
            return Err(Error::new(field.span(), what));
        }
        found.push(Field {
            member: match &field.ident {
                Some(name) => Member::Named(name.clone()),
                None => Member::Unnamed(index.into()),
            },
            ty: field.ty.clone(),
            default,
        });
    }
    Ok(found)
}

/// The content of `#[data(…)]`.
struct FieldOption {
    span: proc_macro2::Span,
    is_other: bool,
    default: TokenStream,
}

/// Removes `#[data(…)]`, which the compiler would not accept, and parses it.
fn take_option(attributes: &mut Vec<Attribute>) -> Result<Option<FieldOption>> {
    let mut found = None;
    let mut rest = Vec::new();
    for attribute in attributes.drain(..) {
        if !attribute.path().is_ident("data") {
            rest.push(attribute);
            continue;
        }
        let mut option = FieldOption {
            span: attribute.span(),
            is_other: false,
            default: quote!(::core::default::Default::default()),
        };
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("other") {
                option.is_other = true;
                return Ok(());
            }
            if !meta.path.is_ident("default") {
                return Err(meta.error("`#[data(…)]` knows `default`, `default = …` and `other`"));
            }
            if meta.input.peek(Token![=]) {
                let value: Expr = meta.value()?.parse()?;
                option.default = quote!(#value);
            }
            Ok(())
        })?;
        found = Some(option);
    }
    *attributes = rest;
    Ok(found)
}
