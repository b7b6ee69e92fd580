//! From an image to one of its exported functions, checked.
//!
//! What an exported function is, [`hotswap_sdk`] says. Code of the image describes it.

use std::{fmt, path::Path, ptr::NonNull};

use hotswap_elf::Export;
use hotswap_sdk::host::{AcceptedFunction, CheckedFunction, ExportedFunction, Function};

use crate::{
    error::{Error, ErrorKind, Result},
    escape::{Escaped, one_line},
    image::Image,
    symbol::{at_an_odd_address, bad, not_found},
};

/// A library need not export functions; those that it exports must be as large as what is read of each.
pub(crate) const EXPORTS: Export<'static> = Export::Prefixed {
    prefix: ExportedFunction::SYMBOL_PREFIX,
    size_min: size_of::<ExportedFunction>() as u64,
};

/// A function that a library exports.
///
/// Its [`Display`](fmt::Display) is `name: type`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionInfo {
    /// Under this name it can be loaded.
    pub name: String,
    /// Its type as a person would write it, `fn(name: &str) -> String`, or why that is not known.
    pub type_name: String,
}

/// Checks, before anything of the image runs, that there is an exported function of the name. `named` has all of them
/// ([`Facts::exported_names`](hotswap_elf::Facts::exported_names)).
pub(crate) fn check_name(path: &Path, named: &[String], name: &str) -> Result<()> {
    if named.iter().any(|it| it == name) {
        return Ok(());
    }
    let kind = ErrorKind::NoSymbol {
        name: name.to_owned(),
        found: named.to_vec(),
    };
    Err(Error::new(path, kind))
}

/// The function that the image exports under the name, if it is an `F`.
pub(crate) fn find<F: Function>(image: &Image, name: &str) -> Result<AcceptedFunction<F>> {
    let path = &*image.origin().given;
    check_name(path, &image.facts().exported_names, name)?;
    let function = check(image, name)?;
    // SAFETY: the image is mapped while it is borrowed.
    let accepted = unsafe { function.accept(name) };
    accepted.map_err(|difference| {
        let symbol = None;
        Error::new(path, ErrorKind::Layout { symbol, difference })
    })
}

/// All exported functions of the image, by name.
pub(crate) fn list(image: &Image) -> Vec<FunctionInfo> {
    let text = |name: &str| {
        let function = check(image, name).map_err(|error| error.message())?;
        // SAFETY: the image is mapped while it is borrowed.
        unsafe { function.text() }
    };
    let info = |name: &String| FunctionInfo {
        name: name.clone(),
        type_name: text(name).unwrap_or_else(|problem| problem),
    };
    image.facts().exported_names.iter().map(info).collect()
}

fn check(image: &Image, name: &str) -> Result<CheckedFunction> {
    let address = image.symbol(&format!("{}{name}", ExportedFunction::SYMBOL_PREFIX));
    let address = address.ok_or_else(|| not_found(image, name))?;
    let exported: NonNull<ExportedFunction> = address.cast();
    if !exported.is_aligned() {
        return Err(bad(image, name, at_an_odd_address(name)));
    }
    // SAFETY: the inspection has found that this many bytes can be read there. Any bytes are an `ExportedFunction`.
    let exported = unsafe { exported.read() };
    // SAFETY: a static of this name and with this mark is what the macro has made (`Trust::vouch`).
    let checked = unsafe { exported.check(|address| image.is_code(address)) };
    checked.map_err(|problem| bad(image, name, format!("`{name}` {problem}")))
}

impl fmt::Display for FunctionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Escaped(&self.name), one_line(&self.type_name))
    }
}
