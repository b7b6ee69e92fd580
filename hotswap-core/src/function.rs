//! From an image to one of its exported functions, checked.
//!
//! What an exported function is, [`hotswap_sdk`] says. Its description is made by code of the image.

use hotswap_sdk::host::{AcceptedFunction, CheckedFunction, ExportedFunction, Function};

use crate::{
    error::{Error, ErrorKind, Result},
    image::Image,
    symbol,
};

/// The function that the image exports under the name, if it is an `F`.
pub(crate) fn find<F: Function>(image: &Image, name: &str) -> Result<AcceptedFunction<F>> {
    let function = check(image, name)?;
    // SAFETY: the image is mapped while it is borrowed.
    let accepted = unsafe { function.accept(name) };
    accepted.map_err(|difference| {
        let symbol = None;
        let kind = ErrorKind::Layout { symbol, difference };
        Error::new(&image.origin().given, kind)
    })
}

fn check(image: &Image, name: &str) -> Result<CheckedFunction> {
    let export = ExportedFunction::SYMBOL_PREFIX;
    // SAFETY: any bytes are an `ExportedFunction`, which nobody changes.
    let exported =
        unsafe { symbol::c_static::<ExportedFunction>(image, &format!("{export}{name}")) }?;
    // SAFETY: a static of this name and with this mark is what the macro has made (`Trust::vouch`).
    let checked = unsafe { exported.check(|address| image.is_code(address)) };
    checked.map_err(|problem| {
        let problem = format!("`{name}` {problem}");
        Error::new(&image.origin().given, ErrorKind::bad_symbol(name, problem))
    })
}
