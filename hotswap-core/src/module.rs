//! From an image to its root module, checked.
//!
//! abi_stable's own loaders are made for libraries that never leave: they keep the module, the library and
//! pointers into the plugin's layouts in process-wide tables, and after a `dlclose` the third load can crash
//! (abi_stable 0.11.3, 2026-11: always, when two layouts alternate). So the same steps are taken here one by
//! one: header, version, layout, root module.
//!
//! All text is made while the image is still mapped, for it is made of the plugin's strings.

use std::{marker::PhantomData, mem, path::Path};

use abi_stable::{
    library::{
        AbiHeader, AbiHeaderRef, LibHeader, LibraryError, ROOT_MODULE_LOADER_NAME, RootModule,
        RootModuleError,
    },
    sabi_types::VersionNumber,
};
use hotswap_elf::Export;
use hotswap_sdk::host::PluginRootRef;

use crate::{
    error::{Error, ErrorKind, Result, Stage},
    image::Image,
    layout::{self, Description, Mismatch, both},
};

/// What a file must define to hold a root module. Of the header only its first field is sure to be there:
/// whether the rest is, that field says.
pub(crate) const EXPORT: Export<'static> = Export::Static {
    name: ROOT_MODULE_LOADER_NAME,
    size_min: size_of::<AbiHeader>() as u64,
};

/// An image whose root module is of the type `M`. Nothing of its own code has run for that.
pub(crate) struct Checked<'a, M> {
    header: &'static LibHeader,
    image: &'a Image,
    of: PhantomData<fn() -> M>,
}

/// Checks the image's root module against `M`.
pub(crate) fn check<M: RootModule>(image: &Image) -> Result<Checked<'_, M>> {
    let path = &*image.origin().given;
    let header = header(image, path)?;
    let found = description(image, header);
    if let Ok(found) = &found {
        check_kind::<M>(*found, path)?;
    }
    check_version::<M>(header, path)?;
    let checked = found.and_then(|found| layout::check(Description::of::<M>(), found));
    checked.map_err(|mismatch| mismatch.refuse(path, None))?;
    Ok(Checked {
        header,
        image,
        of: PhantomData,
    })
}

impl<M: RootModule> Checked<'_, M> {
    /// The version of the interface that the plugin was built with.
    pub(crate) fn version(&self) -> String {
        let version = self.header.version_strings();
        let version = VersionNumber::new(version).map(|version| version.to_string());
        version.unwrap_or_else(|error| error.to_string())
    }

    /// Runs the root module's constructor, and gives the module.
    ///
    /// The module points into the image: it must not be used after the image is closed.
    pub(crate) fn root_module(self) -> Result<M> {
        // SAFETY: the layout of the module is that of `M`, or one that `M` is a prefix of: `check` has seen
        // to that, and nobody else makes a `Checked`.
        let module = unsafe { self.header.unchecked_layout::<M>() };
        let refuse = |kind| Error::new(&self.image.origin().given, kind);
        let module = module.map_err(|error| refuse(root_error(error)))?;
        let checked = layout::check_functions(self.image, module);
        checked.map_err(|name| {
            let function = name.to_string();
            refuse(ErrorKind::NotCode { function })
        })?;
        Ok(module)
    }
}

fn header(image: &Image, path: &Path) -> Result<&'static LibHeader> {
    let refuse = |kind| Error::new(path, kind);
    let bad = |problem: String| refuse(ErrorKind::BadHeader { problem });
    let address = image
        .symbol(ROOT_MODULE_LOADER_NAME)
        .ok_or_else(|| bad("the system does not find its root module".to_owned()))?;
    // SAFETY: the export under this name is abi_stable's header (`Trust::vouch`), and an `AbiHeaderRef`
    // is a transparent pointer to one. What can be recognised as something else is, below and by `upgrade`.
    let header =
        unsafe { mem::transmute::<*const (), AbiHeaderRef>(address.as_ptr().cast_const().cast()) };
    if header.is_valid() && layout::check_header(image, address.addr().get()).is_err() {
        return Err(bad("its root module's header is damaged".to_owned()));
    }
    header.upgrade().map_err(|error| match error {
        LibraryError::InvalidAbiHeader(found)
            if found.magic_string == AbiHeader::VALUE.magic_string =>
        {
            refuse(ErrorKind::abi_stable(
                None,
                found.abi_major,
                found.abi_minor,
            ))
        }
        LibraryError::InvalidAbiHeader(_) => {
            bad("its root module is not an abi_stable one".to_owned())
        }
        other => bad(other.to_string()),
    })
}

/// As for a package of cargo: the same major version, below 1.0 the same minor version too. Which of two such versions
/// is older does not matter; whether their types go together is found out one by one.
fn check_version<M: RootModule>(header: &LibHeader, path: &Path) -> Result<()> {
    let host = VersionNumber::new(M::VERSION_STRINGS);
    let plugin = VersionNumber::new(header.version_strings());
    if let (Ok(host), Ok(plugin)) = (&host, &plugin)
        && host.is_loosely_compatible(*plugin)
    {
        return Ok(());
    }
    // One that cannot be read is shown as the reason why.
    let expected = match host {
        Ok(host) if host.major == 0 => format!("0.{}.x", host.minor),
        Ok(host) => format!("{}.x", host.major),
        Err(error) => error.to_string(),
    };
    let found = plugin.map_or_else(|error| error.to_string(), |plugin| plugin.to_string());
    let interface = M::NAME.to_owned();
    let kind = ErrorKind::Version {
        interface,
        expected,
        found,
    };
    Err(Error::new(path, kind))
}

/// The description of the root module's type.
fn description(image: &Image, header: &LibHeader) -> std::result::Result<Description, Mismatch> {
    let Some(found) = header.layout() else {
        let problem = "it carries no description of its types, so that they cannot be checked";
        return Err(Mismatch::without_report(problem.to_owned()));
    };
    Ok(Description::in_image(image, found)?)
}

/// Checks that either both sides or none has the root module of `#[plugin]`: a comparison of that with a root module of
/// an interface's own says nothing useful, and not even their versions are of the same package.
fn check_kind<M: RootModule>(found: Description, path: &Path) -> Result<()> {
    let of_plugin = Description::of::<PluginRootRef>();
    let expected = Description::of::<M>().is_of_same_name(of_plugin);
    let found = found.is_of_same_name(of_plugin);
    if expected == found {
        return Ok(());
    }
    let kind = |is_of_plugin| match is_of_plugin {
        true => "one made with `#[plugin]`",
        false => "one made with a root module of its own",
    };
    let difference = format!(
        "another kind of plugin: {}",
        both(kind(expected), kind(found))
    );
    Err(Mismatch::without_report(difference).refuse(path, None))
}

fn root_error(error: RootModuleError) -> ErrorKind {
    match error {
        RootModuleError::Returned(error) => ErrorKind::ConstructorFailed {
            message: error.to_string(),
        },
        RootModuleError::Unwound => ErrorKind::Panicked {
            stage: Stage::Root,
            message: None,
        },
    }
}
