//! From an image to what is called: a plugin's value, or its root module as it is.
//!
//! The root module of a plugin with `#[plugin]` is always of one type, and is checked like any other. What the interface
//! is made of, the plugin then says itself: the descriptions of both sides are compared before its value is made.

use std::sync::Arc;

use hotswap_sdk::host::{Interface, Refused};

use crate::{
    error::{CONSTRUCTOR, Error, ErrorKind, Result, Stage},
    image::Image,
    module::{self, Checked},
    objects::Objects,
    report::Count,
};

/// An image whose root module is of the type that `I` needs.
pub(crate) struct Candidate<'a, I: Interface + ?Sized> {
    image: &'a Image,
    checked: Checked<'a, I::Module>,
}

/// What a generation keeps, and the version of the interface that the plugin was built with.
pub(crate) struct Opened<L> {
    pub(crate) live: L,
    pub(crate) version: String,
    /// Those that it makes.
    pub(crate) objects: Arc<Objects>,
}

/// Checks the root module. Nothing of the image's own code has run for that.
pub(crate) fn check<I: Interface + ?Sized>(image: &Image) -> Result<Candidate<'_, I>> {
    let checked = module::check(image)?;
    Ok(Candidate { image, checked })
}

/// All of it.
pub(crate) fn open<I: Interface + ?Sized>(image: &Image) -> Result<Opened<I::Live>> {
    check::<I>(image)?.open()
}

/// Whether a probe has given back all objects that it has had from the candidate. What it has kept could be used when
/// the candidate is gone.
pub(crate) fn check_objects(objects: &Objects) -> std::result::Result<(), String> {
    match objects.counts().first() {
        None => Ok(()),
        Some((interface, count)) => Err(format!(
            "the probe has kept {} of {interface} of the candidate, which stays mapped for that",
            Count(*count, "object")
        )),
    }
}

impl<I: Interface + ?Sized> Candidate<'_, I> {
    /// Runs the plugin's code: compares what it says of its interface, and has it make its value.
    pub(crate) fn open(self) -> Result<Opened<I::Live>> {
        let of_header = self.checked.version();
        let module = self.checked.root_module()?;
        let objects = Arc::<Objects>::default();
        // SAFETY: the layout was checked. What is made of the module is kept together with the image, and is used only
        // until that is retired; nobody else opens this image.
        let accepted = unsafe { I::accept(module, Arc::clone(&objects) as _) };
        let (live, version) = accepted.map_err(|refused| {
            let kind = match refused {
                Refused::Version {
                    interface,
                    expected,
                    found,
                } => ErrorKind::Version {
                    interface,
                    expected,
                    found,
                },
                Refused::Layout(difference) => ErrorKind::Layout {
                    symbol: None,
                    difference,
                },
                Refused::Failed(message) => ErrorKind::ConstructorFailed { message },
                Refused::Panicked(message) => ErrorKind::Panicked {
                    stage: Stage::Root,
                    who: CONSTRUCTOR,
                    message: Some(message),
                },
            };
            Error::new(&self.image.origin().given, kind)
        })?;
        let version = version.unwrap_or(of_header);
        Ok(Opened {
            live,
            version,
            objects,
        })
    }
}
