//! From an image to a symbol that is no exported function: a typed symbol, checked, or a C symbol on the host's word.
//!
//! What a typed symbol is, [`hotswap_sdk`] says. Nothing of the image has to run for this.

use std::{ffi::c_void, mem, ptr::NonNull};

use abi_stable::{StableAbi, library::AbiHeader};
use hotswap_elf::Export;
use hotswap_sdk::host::{SYMBOL_PREFIX, SymbolMark, TypedSymbol};

use crate::{
    error::{Error, ErrorKind, Result},
    image::Image,
    layout::{self, Description},
};

/// What stands before the value, of whatever type that is.
type Head = TypedSymbol<()>;

/// The value that the image exports under the name as a typed symbol, if any. It may lead into the image.
pub(crate) fn find_optional<T: StableAbi + Copy>(image: &Image, name: &str) -> Result<Option<T>> {
    let symbol = &format!("{SYMBOL_PREFIX}{name}");
    if image.symbol(symbol).is_none() {
        return Ok(None);
    }
    let export = Export::Static {
        name: symbol,
        size_min: size_of::<TypedSymbol<T>>() as u64,
    };
    let inspected = image.inspect(export);
    inspected.map_err(|problem| bad(image, name, problem))?;
    let path = &*image.origin().given;
    let (head, found) = head(image, name)?;
    let expected = Description::of::<T>();
    layout::check(expected, found).map_err(|mut mismatch| {
        let (expected, found) = (expected.summary(), found.summary());
        if expected != found {
            mismatch.summary = format!("expected {expected}, found {found}");
        }
        mismatch.refuse(path, Some(name))
    })?;
    let symbol: *const TypedSymbol<T> = (&raw const *head).cast();
    if !symbol.is_aligned() {
        return Err(bad(image, name, at_an_odd_address(name)));
    }
    // SAFETY: `layout::check` has found that the value's type is `T`, or one that can be used as `T`. The image stays
    // mapped while it is borrowed, and the value is copied before that ends.
    Ok(Some(unsafe { &*symbol }.value))
}

/// The function that the image itself exports under the name.
///
/// # Safety
///
/// `F` is the type of a pointer to the function, and the result is used only while the image is mapped.
pub(crate) unsafe fn c_function<F: Copy>(image: &Image, name: &str) -> Result<F> {
    const {
        assert!(
            size_of::<F>() == size_of::<*const c_void>(),
            "a function pointer"
        )
    };
    let address = c_symbol(image, name, Export::Function { name })?;
    // SAFETY: `F` is the type of a pointer to this function (`# Safety` of this function), and has the size of one.
    Ok(unsafe { mem::transmute_copy(&address) })
}

/// The static that the image itself exports under the name.
///
/// # Safety
///
/// The static holds a valid `T`, and is changed only in ways that a shared `T` allows. The result is used only while
/// the image is mapped.
pub(crate) unsafe fn c_static<T: Sync>(image: &Image, name: &str) -> Result<&'static T> {
    let size_min = size_of::<T>() as u64;
    let address = c_symbol(image, name, Export::Static { name, size_min })?;
    let address: NonNull<T> = address.cast();
    if !address.is_aligned() {
        return Err(bad(image, name, at_an_odd_address(name)));
    }
    // SAFETY: the static holds a `T` while the image is mapped (`# Safety` of this function). The inspection has found
    // that it has enough bytes, and the address is aligned.
    Ok(unsafe { address.as_ref() })
}

fn c_symbol(image: &Image, name: &str, export: Export<'_>) -> Result<NonNull<c_void>> {
    let inspected = image.inspect(export);
    inspected.map_err(|problem| bad(image, name, problem))?;
    image.symbol(name).ok_or_else(|| not_found(image, name))
}

/// What stands before the value, and the type of the value.
fn head<'a>(image: &'a Image, name: &str) -> Result<(&'a Head, Description)> {
    let refuse = |problem: String| bad(image, name, problem);
    let address = image.symbol(&format!("{SYMBOL_PREFIX}{name}"));
    let address = address.ok_or_else(|| not_found(image, name))?;
    let head: NonNull<Head> = address.cast();
    if !head.is_aligned() {
        return Err(refuse(at_an_odd_address(name)));
    }
    // SAFETY: the inspection has found that this many bytes can be read there. Any bytes are a valid `SymbolMark`.
    let SymbolMark { header, version } = unsafe { head.cast::<SymbolMark>().as_ref() };
    if header.magic_string != AbiHeader::VALUE.magic_string {
        return Err(refuse(format!("`{name}` is not a typed symbol")));
    }
    if !header.is_valid() {
        let kind = ErrorKind::abi_stable(Some(name), header.abi_major, header.abi_minor);
        return Err(Error::new(&image.origin().given, kind));
    }
    if *version != SymbolMark::VERSION {
        return Err(refuse(format!(
            "`{name}` is a typed symbol of version {version}, expected {}",
            SymbolMark::VERSION
        )));
    }
    // SAFETY: a symbol whose name begins like this, with this mark, is what the macro has made
    // (`Trust::vouch`), in an image that is mapped and initialised for as long as it is borrowed.
    let head = unsafe { head.as_ref() };
    let of = Description::in_image(image, head.layout);
    let of = of.map_err(|damaged| refuse(format!("`{name}`: {damaged}")))?;
    Ok((head, of))
}

pub(crate) fn bad(image: &Image, name: &str, problem: String) -> Error {
    Error::new(&image.origin().given, ErrorKind::bad_symbol(name, problem))
}

pub(crate) fn not_found(image: &Image, name: &str) -> Error {
    bad(image, name, format!("the system does not find `{name}`"))
}

pub(crate) fn at_an_odd_address(name: &str) -> String {
    format!("`{name}` is at an odd address")
}
