//! From an image to one of its typed symbols, checked.
//!
//! What a typed symbol is, [`hotswap_sdk`] says. Nothing of the image has to run for this.

use std::{ffi::c_void, fmt, mem, path::Path, ptr::NonNull};

use abi_stable::{StableAbi, library::AbiHeader};
use hotswap_elf::Export;
use hotswap_sdk::{SYMBOL_PREFIX, SymbolMark, TypedSymbol};

use crate::{
    error::{Error, ErrorKind, Result},
    escape::{Escaped, one_line},
    image::Image,
    layout::{self, Description},
};

/// What stands before the value, of whatever type that is.
type Head = TypedSymbol<()>;

/// Typed symbols need not be there; those that are must be as large as what can be read of each.
pub(crate) const EXPORTS: Export<'static> = Export::Prefixed {
    prefix: SYMBOL_PREFIX,
    size_min: size_of::<Head>() as u64,
};

/// A typed symbol of a library.
///
/// Its [`Display`](fmt::Display) is `name: type`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SymbolInfo {
    /// Under this name it can be loaded.
    pub name: String,
    /// Its type as a person would write it, or why that is not known.
    pub type_name: String,
}

/// Checks, before anything of the image runs, that there is a typed symbol of the name. `named` has all of them
/// ([`Facts::named`](hotswap_elf::Facts::named)).
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

/// The value that the image exports under the name. It may lead into the image.
pub(crate) fn find<T: StableAbi + Copy>(image: &Image, name: &str) -> Result<T> {
    let path = &*image.origin().given;
    check_name(path, &image.facts().named, name)?;
    typed(image, name)
}

/// As [`find`], out of an image that was inspected for something else, and that need not have it.
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
    typed(image, name).map(Some)
}

fn typed<T: StableAbi + Copy>(image: &Image, name: &str) -> Result<T> {
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
    Ok(unsafe { &*symbol }.value)
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

/// All typed symbols of the image, by name.
pub(crate) fn list(image: &Image) -> Vec<SymbolInfo> {
    let info = |name: &String| SymbolInfo {
        name: name.clone(),
        type_name: match head(image, name) {
            Ok((_, of)) => of.summary(),
            Err(error) => error.message(),
        },
    };
    image.facts().named.iter().map(info).collect()
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

fn bad(image: &Image, name: &str, problem: String) -> Error {
    Error::new(&image.origin().given, ErrorKind::bad_symbol(name, problem))
}

fn not_found(image: &Image, name: &str) -> Error {
    bad(image, name, format!("the system does not find `{name}`"))
}

fn at_an_odd_address(name: &str) -> String {
    format!("`{name}` is at an odd address")
}

impl fmt::Display for SymbolInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Escaped(&self.name), one_line(&self.type_name))
    }
}
