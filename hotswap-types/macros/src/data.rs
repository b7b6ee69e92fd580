//! `#[data]`.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, Fields, GenericParam, Member, Result, Token, Type,
    parse_quote, spanned::Spanned,
};

use crate::method::{Position, as_trait, check_type};

/// The fields of a struct or of a variant.
struct Record {
    /// Of the struct or variant, in code.
    path: TokenStream,
    /// Of the struct or variant, in texts.
    name: String,
    /// Tells those of several variants apart.
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
                name: name.to_string(),
                number: 0,
                fields,
            });
        }
        Data::Enum(data) => {
            for variant in &mut data.variants {
                let ident = &variant.ident;
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
                    name: ident.to_string(),
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
    /// The generics, with what each type must be.
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

    /// Where the views of the fields stand, and what writes and reads them.
    fn table(&self, record: &Record) -> TokenStream {
        let generics = self.generics();
        let (impl_generics, type_generics, clause) = generics.split_for_impl();
        let name = &self.input.ident;
        let (table, write_fields, read) = record.names();
        let path = &record.path;
        let count = Literal::u32_unsuffixed(u32::try_from(record.fields.len()).unwrap_or(u32::MAX));
        let slots: Vec<_> = (0..record.fields.len())
            .map(|number| format_ident!("field_{number}"))
            .collect();
        let members: Vec<_> = record.fields.iter().map(|it| &it.member).collect();
        let types = record.fields.iter().map(|it| as_trait(&it.ty, "Data"));
        let numbers: Vec<_> = (0u32..)
            .take(slots.len())
            .map(Literal::u32_unsuffixed)
            .collect();
        let irrefutable = match self.records.len() + usize::from(self.other.is_some()) {
            1 => quote!(let #path { #(#members: #slots),* } = value;),
            _ => quote!(let #path { #(#members: #slots),* } = value else { return 0 };),
        };
        let parameters: Vec<_> = self
            .input
            .generics
            .type_params()
            .map(|it| &it.ident)
            .collect();
        let values =
            record
                .fields
                .iter()
                .zip(&slots)
                .zip(&numbers)
                .map(|((field, slot), number)| {
                    let Field {
                        member,
                        ty,
                        default,
                    } = field;
                    let data = as_trait(ty, "Data");
                    let read = quote! {
                        // SAFETY: the field was written, for the other side has so many; what it leads to is there.
                        unsafe { #data::read((&raw const (*fields).#slot).read(), context) }?
                    };
                    match default {
                        None => quote!(#member: #read),
                        Some(default) => {
                            quote!(#member: if written > #number { #read } else { #default })
                        }
                    }
                });
        quote! {
            #[repr(C)]
            struct #table #impl_generics #clause {
                #(#slots: #types::View,)*
                marker: ::core::marker::PhantomData<(#(#parameters,)*)>,
            }

            #[allow(unused_variables, reason = "without fields")]
            unsafe extern "C" fn #write_fields #impl_generics(
                value: *const (),
                fields: *mut (),
                count: u32,
            ) -> u32 #clause {
                // SAFETY: a view of such a value leads to this function.
                let value = unsafe { &*value.cast::<#name #type_generics>() };
                #irrefutable
                let fields = fields.cast::<#table #type_generics>();
                if count >= #count {
                    let all = #table {
                        #(#slots: ::hotswap_sdk::expansion::Data::view(#slots),)*
                        marker: ::core::marker::PhantomData,
                    };
                    // SAFETY: the reader has room for all of these, and more.
                    unsafe { fields.write(all) };
                    return #count;
                }
                #(
                    if count > #numbers {
                        // SAFETY: the reader has room for this one, where it would stand if those behind it were not there.
                        unsafe {
                            (&raw mut (*fields).#slots).write(::hotswap_sdk::expansion::Data::view(#slots));
                        }
                    }
                )*
                count
            }

            /// # Safety
            ///
            /// The view leads to the fields of such a value of either side.
            #[allow(unused_variables, reason = "without fields")]
            unsafe fn #read #impl_generics(
                view: ::hotswap_sdk::expansion::RecordView,
                context: ::hotswap_sdk::expansion::ReadContext<'_>,
            ) -> ::core::result::Result<#name #type_generics, ::hotswap_sdk::expansion::ReadError> #clause {
                let context = context.deeper()?;
                let mut fields = ::core::mem::MaybeUninit::<#table #type_generics>::uninit();
                // SAFETY: the caller's promise; there is room for so many.
                let written = unsafe { view.write_fields(fields.as_mut_ptr(), #count) };
                let fields = fields.as_ptr();
                ::core::result::Result::Ok(#path { #(#values),* })
            }
        }
    }

    fn struct_impl(&self, record: &Record) -> TokenStream {
        let generics = self.generics();
        let (impl_generics, type_generics, clause) = generics.split_for_impl();
        let turbofish = type_generics.as_turbofish();
        let ident = &self.input.ident;
        let (_, write_fields, read) = record.names();
        let name = &record.name;
        let fields = record.described();
        quote! {
            // SAFETY: as `#[data]` writes it: what is read was compared with this type.
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
                    // SAFETY: the caller's promise.
                    unsafe { #read #turbofish(view, context) }
                }

                fn describe(
                    types: &mut ::hotswap_sdk::expansion::Types,
                ) -> ::hotswap_sdk::expansion::TypeIndex {
                    types.structure::<Self>(#name, |types| #fields)
                }
            }

            // SAFETY: that of `Data`.
            #[automatically_derived]
            unsafe impl #impl_generics ::hotswap_sdk::expansion::Record for #ident #type_generics #clause {
                const WRITE_FIELDS: ::hotswap_sdk::expansion::WriteFieldsFn = #write_fields #turbofish;
            }
        }
    }

    fn enum_impl(&self) -> TokenStream {
        let generics = self.generics();
        let (impl_generics, type_generics, clause) = generics.split_for_impl();
        let turbofish = type_generics.as_turbofish();
        let ident = &self.input.ident;
        let name = ident.to_string();
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
                    // SAFETY: the caller's promise.
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
            // SAFETY: as `#[data]` writes it: what is read was compared with this type.
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
        let ident = &self.input.ident;
        quote! {
            // SAFETY: that of `Data`, whose view it is.
            #[automatically_derived]
            unsafe impl #impl_generics ::hotswap_sdk::expansion::ByValue for #ident #type_generics #clause {
                type View = <Self as ::hotswap_sdk::expansion::Data>::View;
                type Outgoing = Self;

                #[inline]
                fn into_outgoing(self, _: &::hotswap_sdk::expansion::Leases) -> Self {
                    self
                }

                #[inline]
                fn view_outgoing(outgoing: &Self) -> Self::View {
                    ::hotswap_sdk::expansion::Data::view(outgoing)
                }

                #[inline]
                unsafe fn take(
                    view: Self::View,
                    context: ::hotswap_sdk::expansion::ReadContext<'_>,
                ) -> ::core::result::Result<Self, ::hotswap_sdk::expansion::ReadError> {
                    // SAFETY: the caller's promise.
                    unsafe { ::hotswap_sdk::expansion::Data::read(view, context) }
                }

                fn describe_value(
                    types: &mut ::hotswap_sdk::expansion::Types,
                ) -> ::hotswap_sdk::expansion::TypeIndex {
                    <Self as ::hotswap_sdk::expansion::Data>::describe(types)
                }
            }
        }
    }
}

impl Record {
    /// Of the struct of its views, and of the functions that write and read those.
    fn names(&self) -> (Ident, Ident, Ident) {
        let number = self.number;
        (
            format_ident!("__Fields{number}"),
            format_ident!("__write_fields_{number}"),
            format_ident!("__read_{number}"),
        )
    }

    fn literal(&self) -> Literal {
        Literal::u32_unsuffixed(u32::try_from(self.number).unwrap_or(u32::MAX))
    }

    fn described(&self) -> TokenStream {
        let fields = self.fields.iter().map(|field| {
            let Field {
                member,
                ty,
                default,
            } = field;
            let data = as_trait(ty, "Data");
            let name = match member {
                Member::Named(name) => name.to_string().trim_start_matches("r#").to_owned(),
                Member::Unnamed(index) => index.index.to_string(),
            };
            let has_default = default.is_some();
            quote! {
                ::hotswap_sdk::expansion::Field {
                    name: ::std::string::String::from(#name),
                    ty: #data::describe(types),
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

/// What stands in `#[data(…)]`.
struct FieldOption {
    span: proc_macro2::Span,
    is_other: bool,
    default: TokenStream,
}

/// Takes `#[data(…)]` away, which the compiler does not know.
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
