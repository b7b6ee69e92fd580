//! Checks that the function fields of a root module are functions, because the host calls them without a further
//! check.

use std::ptr;

use abi_stable::{
    library::RootModule,
    type_layout::{TLData, TypeLayout},
};

use super::description::Object;
use crate::image::Image;

/// Checks the functions in the root module's own fields: each accessible one must be code of the image or of a
/// library. If one is not, returns the name of its field. Functions that other fields point to are not checked.
pub(crate) fn check_functions<M: RootModule>(image: &Image, module: M) -> Result<(), &'static str> {
    let Some(TLData::PrefixType(prefix)) = prefix_type_of(M::LAYOUT).map(TypeLayout::data) else {
        return Ok(());
    };
    let object: *const Object = module.to_prefix_ref().to_raw_ptr().cast();
    // SAFETY: a `PrefixRef` points to a root module, which begins with an `Object` and lives as long as the image is
    // mapped.
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
        // SAFETY: the root module has this field, because its bit in `accessible` is set. The field is a function
        // pointer, and `at` is its `repr(C)` offset.
        let function = unsafe { function.read() };
        if !image.leads_to_code(function) {
            return Err(field.name());
        }
    }
    Ok(())
}

/// The layout of the prefix type that `reference` refers to. A reference's layout names it in a phantom field.
pub(super) fn prefix_type_of(reference: &'static TypeLayout) -> Option<&'static TypeLayout> {
    Some(reference.phantom_fields().iter().next()?.layout())
}
