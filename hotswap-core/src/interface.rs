//! Makes what a generation is called by: the proxy of a plugin's value, or a root module.
//!
//! All plugins with `#[plugin]` export a root module of the same type, which is checked like any other. A function of
//! it returns the description of the plugin's interface; the descriptions of both sides are compared before the
//! plugin's value is made.

use std::sync::Arc;

use hotswap_sdk::host::{HostServices, ImageMemory, Interface, LeasedBy, Offer, Refused};

use crate::{
    error::{Error, ErrorKind, Result, Stage},
    image::Image,
    logs::Logs,
    module::{self, Checked},
    objects::Objects,
    report::Count,
};

/// An image whose root module is of the type that `I` needs.
pub(crate) struct CheckedImage<'a, I: Interface + ?Sized> {
    image: &'a Image,
    checked: Checked<'a, I::Module>,
}

/// A plugin whose interface was checked and whose value was made.
pub(crate) struct Opened<L> {
    /// The proxy or the root module.
    pub(crate) live: L,
    /// The version of the interface that the plugin was built with.
    pub(crate) version: String,
    /// The objects that the plugin makes.
    pub(crate) objects: Arc<Objects>,
    /// What the plugin logs to.
    pub(crate) logs: Arc<Logs>,
}

/// Checks the root module, without running code of the plugin.
pub(crate) fn check<I: Interface + ?Sized>(image: &Image) -> Result<CheckedImage<'_, I>> {
    let checked = module::check(image)?;
    Ok(CheckedImage { image, checked })
}

/// [`check`] and [`CheckedImage::open`].
pub(crate) fn open<I: Interface + ?Sized>(
    image: &Image,
    services: &HostServices,
    name: &Arc<str>,
) -> Result<Opened<I::Live>> {
    check::<I>(image)?.open(services, name)
}

/// Ends the host's probe, and checks that it has dropped all objects that it got from the candidate. It could use them
/// after the candidate is unloaded.
pub(crate) fn check_objects(objects: &Objects) -> std::result::Result<(), String> {
    match objects.end_probe().first() {
        None => Ok(()),
        Some((kind, count)) => {
            let kept = match kind {
                LeasedBy::Object(interface) => {
                    format!("{} of {interface}", Count(*count, "object"))
                }
                LeasedBy::Waker => Count(*count, "waker").to_string(),
            };
            Err(format!(
                "the probe has kept {kept} of the candidate, which stays mapped for that"
            ))
        }
    }
}

impl<I: Interface + ?Sized> CheckedImage<'_, I> {
    /// Runs the plugin's code: gets its description and compares it, and makes its value, for which it can take
    /// `services`. `name` is that of the swap point in what the plugin logs.
    pub(crate) fn open(self, services: &HostServices, name: &Arc<str>) -> Result<Opened<I::Live>> {
        let header_version = self.checked.version();
        let module = self.checked.root_module()?;
        let objects = Arc::<Objects>::default();
        let logs = Logs::new(Arc::clone(name), Arc::clone(&objects));
        // SAFETY: the image keeps it until it is unmapped.
        let (kept, handle) = unsafe { logs.connect() };
        self.image.keep_until_gone(kept);
        let offer = Offer {
            services,
            config: &self.image.origin().config,
            leases: Arc::clone(&objects) as _,
            keep: &|lent| self.image.keep_until_gone(lent),
            logs: handle,
        };
        // SAFETY: `checked` shows that the module's layout was checked. The result is kept together with the image, and
        // is used only until that is retired, which is before it is unmapped and before its hook runs. The handle was
        // made for this image, which is opened once.
        let accepted = unsafe { I::accept(module, self.image, offer) };
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
                Refused::NotCode(function) => ErrorKind::NotCode { function },
                Refused::MissingHostService(interface) => ErrorKind::MissingHostService {
                    interface,
                    is_in_trial: false,
                },
                Refused::Failed(message) => ErrorKind::ConstructorFailed { message },
                Refused::Panicked(message) => ErrorKind::Panicked {
                    stage: Stage::Root,
                    message: Some(message),
                },
            };
            Error::new(&self.image.origin().given, kind)
        })?;
        let version = version.unwrap_or(header_version);
        Ok(Opened {
            live,
            version,
            objects,
            logs,
        })
    }
}

impl ImageMemory for Image {
    fn read(&self, address: usize, into: &mut [u8]) -> bool {
        Self::read(self, address, into)
    }

    fn is_code(&self, address: usize) -> bool {
        self.leads_to_code(address)
    }
}
