//! Whether the functions of a root module are functions: the host calls them as they are.

use std::ptr;

use abi_stable::{
    library::RootModule,
    type_layout::{TLData, TypeLayout},
};

use super::description::Object;
use crate::image::Image;

/// Checks the functions that a root module has in fields of its own: each that is there must be code, of the image or of
/// a library. Gives the name of one that is not. What other fields lead to is not looked at.
pub(crate) fn check_functions<M: RootModule>(image: &Image, module: M) -> Result<(), &'static str> {
    let Some(TLData::PrefixType(prefix)) = behind(M::LAYOUT).map(TypeLayout::data) else {
        return Ok(());
    };
    let object: *const Object = module.to_prefix_ref().to_raw_ptr().cast();
    // SAFETY: such a reference leads to a root module, which begins with this, for as long as the image is mapped.
    let accessible = unsafe { (*object).accessible };
    let mut end = object.expose_provenance() + size_of::<Object>();
    for (number, field) in prefix.fields.iter().enumerate() {
        let layout = field.layout();
        let at = end.next_multiple_of(layout.alignment());
        end = at + layout.size();
        let is_there = number < 64 && accessible >> number & 1 != 0;
        if !is_there || !field.is_function() {
            continue;
        }
        let function: *const usize = ptr::with_exposed_provenance(at);
        // SAFETY: the root module has this field, a function pointer, which stands where a C compiler would put it.
        let function = unsafe { function.read() };
        if !image.leads_to_code(function) {
            return Err(field.name());
        }
    }
    Ok(())
}

/// The prefix type behind a reference to one, which mentions it in a field that is not there.
fn behind(reference: &'static TypeLayout) -> Option<&'static TypeLayout> {
    Some(reference.phantom_fields().iter().next()?.layout())
}
