//! One method of an interface: which signatures are accepted, and what they expand to.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Error, FnArg, Ident, ReceiverKind, Result, Signature, TraitItemFn, ext::IdentExt,
    spanned::Spanned,
};

use crate::{
    async_method,
    call::{Call, check_attributes, check_plain, check_types},
};

/// A method whose signature was accepted.
pub(crate) struct Method {
    pub(crate) signature: Signature,
    pub(crate) name: Ident,
    pub(crate) has_default: bool,
    is_async: bool,
    call: Call,
    number: usize,
}

impl Method {
    pub(crate) fn new(number: usize, method: &TraitItemFn) -> Result<Self> {
        let mut signature = method.sig.clone();
        check(&signature)?;
        check_attributes(&method.attrs)?;
        // With the hygiene of this expansion, even if another macro has written the trait.
        signature.inputs[0] = syn::parse_quote!(&self);
        let call = Call::of_signature(&mut signature)?;
        let is_async = async_method::make_sync(&mut signature).is_some();
        Ok(Self {
            name: signature.ident.clone(),
            call,
            signature,
            is_async,
            has_default: method.default.is_some(),
            number,
        })
    }

    /// The name of its vtable entry.
    pub(crate) fn entry_name(&self) -> Ident {
        format_ident!("__entry_{}", self.number)
    }

    /// The name of the receiver of its default body: a type that implements the other methods by the proxy, but not
    /// this one, so that the trait's default body is what runs.
    pub(crate) fn default_receiver(&self) -> Ident {
        format_ident!("__DefaultReceiver{}", self.number)
    }

    /// The method of the proxy: builds the argument list and calls the entry.
    pub(crate) fn proxy(&self, interface: &Ident) -> TokenStream {
        let Self {
            signature,
            name,
            number,
            call,
            ..
        } = self;
        let receiver = self.default_receiver();
        let default = self.has_default.then(|| {
            let idents = call.idents();
            let default = quote!(#interface::#name(&#receiver(self), #(#idents),*));
            // The receiver must live as long as the future.
            let default = match self.is_async {
                true => quote!(::hotswap_sdk::expansion::boxed(async move { #default.await })),
                false => default,
            };
            quote! {
                if !self.0.has(#number) {
                    return #default;
                }
            }
        });
        let arguments = call.arguments();
        let call = call.item_of_result("call");
        quote! {
            #[inline]
            #signature {
                #default
                #arguments
                // SAFETY: the other side has an entry with this index: `has` says so, or the method has no default
                // body, and then the comparison of the descriptions has found it. That comparison has also found its
                // types to agree. What the views are of is borrowed, or is outgoing and dropped after the call.
                unsafe { #call(&self.0, #number, arguments) }
            }
        }
    }

    /// The method, forwarded to the proxy.
    pub(crate) fn forwarded(&self, interface: &Ident) -> TokenStream {
        let Self {
            signature, name, ..
        } = self;
        let idents = self.call.idents();
        quote! {
            #[inline]
            #signature {
                #interface::#name(self.0, #(#idents),*)
            }
        }
    }

    /// The vtable entry: decodes the arguments and calls the method.
    pub(crate) fn entry_fn(&self, interface: &Ident) -> TokenStream {
        let Self { name, call, .. } = self;
        let entry = self.entry_name();
        let (pattern, decode, pass) = (call.pattern(), call.decode(), call.pass());
        let dispatch = call.item_of_result("dispatch");
        let result = quote!(#interface::#name(__this, #pass));
        quote! {
            unsafe extern "C" fn #entry<__S>(
                this: *const (),
                arguments: *const (),
                out: *mut (),
                reply: *const ::hotswap_sdk::expansion::ReplyVtable,
            ) -> u32
            where
                __S: ::hotswap_sdk::expansion::DispatchTarget,
                __S::Target: #interface,
            {
                // SAFETY: this is the method's entry in the vtable for an `__S`, and is called as one (contract of
                // `Entry`). Argument list and result have the types in the description: the list has the views that are
                // read, each as the type that it is described as. What it is of stays unchanged until this returns. The
                // caller drops a future before the value (the same contract), and a plugin's value is dropped after the
                // runtime has ended.
                unsafe {
                    #dispatch::<__S, _>(
                        this,
                        arguments,
                        out,
                        reply,
                        |__this, #pattern, __context| {
                            #decode
                            ::core::result::Result::Ok(#result)
                        },
                    )
                }
            }
        }
    }

    /// The description of its parameters and its result.
    pub(crate) fn described(&self) -> TokenStream {
        let Self {
            name,
            has_default,
            call,
            ..
        } = self;
        let name = name.unraw().to_string();
        let described = call.described();
        quote! {
            methods.method(#name, #has_default, |signature| { #described });
        }
    }
}

/// Refuses signatures that no interface can have, and says what to write instead.
fn check(signature: &Signature) -> Result<()> {
    check_plain(
        signature,
        "a method of an interface",
        "method",
        "#[interface]",
    )?;
    match signature.inputs.first() {
        Some(FnArg::Receiver(receiver))
            if let ReceiverKind::Reference(_, _, mutability) = &receiver.kind =>
        {
            if let Some(token) = mutability {
                let what = "a plugin's value is shared by all callers: take `&self`, and put what changes into a `Mutex` or an \
                            atomic";
                return Err(Error::new(token.span(), what));
            }
        }
        Some(input) => {
            let what = "a method of an interface takes `&self`";
            return Err(Error::new(input.span(), what));
        }
        None => {
            let what =
                "a method of an interface takes `&self`: without it there is no value to call";
            return Err(Error::new(signature.ident.span(), what));
        }
    }
    if signature.asyncness.is_some() {
        async_method::check(signature)?;
    }
    check_types(signature)
}
