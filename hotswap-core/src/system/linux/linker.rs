//! The dynamic linker: open an object, find a symbol, close it, and see what is mapped.
//!
//! Only this file calls the dynamic linker; clippy's `disallowed-methods` keeps its functions in here.
//!
//! `dlclose` returns 0 whether or not it unmapped anything, so [`Object::close`] says nothing either, and [`is_mapped`]
//! looks.

use std::{
    ffi::{CStr, CString, OsStr, c_char, c_int, c_void},
    ops::{ControlFlow, Range},
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr::{self, NonNull},
};

pub(crate) use crate::system::mapping::{Access, Mapping};

use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL, RTLD_NOW};

/// Why nothing can be unloaded on this system.
pub(crate) const CANNOT_UNLOAD: Option<&str> = None;

/// Whether the linker was started as a program, to load and start this one (`ld.so PROGRAM`). Then `/proc/self/exe`
/// leads to the linker.
pub(crate) fn has_started_this_program() -> bool {
    // SAFETY: no conditions.
    let linker = unsafe { libc::getauxval(libc::AT_BASE) };
    // Otherwise the system loads the linker beside the program, and says where. It loads none for a static program.
    linker == 0 && cfg!(not(target_feature = "crt-static"))
}

/// Whether the linker applies packed relative relocations (`DT_RELR`). glibc before 2.36 ignores them.
pub(crate) fn applies_relr() -> bool {
    is_glibc(version(), 36)
}

/// Whether the linker can open a filter (`DT_FILTER`, `DT_AUXILIARY`). glibc before 2.32 ends the process if it finds
/// what is asked first (<https://sourceware.org/bugzilla/show_bug.cgi?id=16272>).
pub(crate) fn opens_filters() -> bool {
    is_glibc(version(), 32)
}

fn version() -> &'static CStr {
    // SAFETY: no conditions.
    let version = unsafe { libc::gnu_get_libc_version() };
    // SAFETY: it is a constant text of the C library.
    unsafe { CStr::from_ptr(version) }
}

/// Whether `version` is glibc 2.`minor` or newer.
fn is_glibc(version: &CStr, minor: u32) -> bool {
    let version = version.to_str().unwrap_or_default();
    let rest = version.strip_prefix("2.").unwrap_or_default();
    let digits = rest.split(|it: char| !it.is_ascii_digit()).next();
    let its = digits.and_then(|it| it.parse::<u32>().ok());
    // Another form would be that of a later one.
    its.is_none_or(|its| its >= minor)
}

/// An open object. It stays mapped for as long as this value lives.
pub(crate) struct Object {
    library: Library,
    /// The linker's name for it: the path that it was first opened by.
    pub(crate) name: Option<CString>,
    /// The difference between its addresses in memory and in the file.
    pub(crate) bias: usize,
}

impl Object {
    /// Maps and links a file, and runs its initialisers. If the linker takes the file for one that is mapped already,
    /// it is that object.
    ///
    /// # Errors
    /// The linker's own message; empty if it did not say why.
    ///
    /// # Safety
    /// The file's initialisers may run now, and its finalisers when this value is dropped. Nobody changes the file as
    /// long as it is mapped.
    pub(crate) unsafe fn open(path: &Path) -> Result<Self, String> {
        // SAFETY: the initialisers may run now, the finalisers when this value is dropped, and nobody changes the file
        // meanwhile (`# Safety` of this function).
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
        library.map(Self::of).map_err(|error| {
            let cause = std::error::Error::source(&error);
            cause.map_or_else(|| error.to_string(), ToString::to_string)
        })
    }

    /// The mapped object that the linker takes for this name or path.
    pub(crate) fn mapped(name: &OsStr) -> Option<Self> {
        // SAFETY: with RTLD_NOLOAD the linker loads nothing and runs no initialiser. Dropping the handle runs
        // finalisers only if it was the last one, and whoever opened the object first has answered for those.
        let library = unsafe { Library::open(Some(name), RTLD_LAZY | libc::RTLD_NOLOAD) };
        library.ok().map(Self::of)
    }

    /// The mapped object that was opened under this name.
    pub(crate) fn mapped_as(name: &CStr) -> Option<Self> {
        Self::mapped(os_str(name))
    }

    fn of(library: Library) -> Self {
        /// The beginning of glibc's `struct link_map`. Debuggers read it, so its layout does not change (`link.h`).
        #[repr(C)]
        struct LinkMap {
            address: usize,
            name: *const c_char,
        }

        let handle = library.into_raw();
        let mut map: *const LinkMap = ptr::null();
        // SAFETY: the handle is open, and this request writes the address of the object's `link_map` (man 3 dlinfo).
        let result = unsafe { libc::dlinfo(handle, libc::RTLD_DI_LINKMAP, (&raw mut map).cast()) };
        let (mut name, mut bias) = (None, 0);
        if result == 0 && !map.is_null() {
            // SAFETY: the linker's description of an object lives as long as a handle of it is open, and this one is.
            let map = unsafe { &*map };
            bias = map.address;
            if !map.name.is_null() {
                // SAFETY: a name that is not null is a C string, which lives as long as the description.
                name = Some(unsafe { CStr::from_ptr(map.name) }.to_owned());
            }
        }
        // SAFETY: `into_raw` above gave this handle, and nobody else has it.
        let library = unsafe { Library::from_raw(handle) };
        Self {
            library,
            name,
            bias,
        }
    }

    /// The path that it was first opened by; empty if the linker does not say.
    pub(crate) fn path(&self) -> &Path {
        Path::new(self.name.as_deref().map_or(OsStr::new(""), os_str))
    }

    /// The address of a symbol that it defines, or one of the objects that it depends on.
    pub(crate) fn symbol(&self, name: &str) -> Option<NonNull<c_void>> {
        // SAFETY: every symbol has an address, and nothing here uses it as anything but an address.
        let symbol = unsafe { self.library.get::<*mut c_void>(name) }.ok()?;
        NonNull::new(symbol.as_raw_ptr())
    }

    /// Gives up the object. The linker may keep it mapped, or not; it does not say.
    pub(crate) fn close(self) {
        // The error tells nothing that a caller could act on.
        let _ = self.library.close();
    }
}

/// The linker's description of a mapped object, which it lends during a call of [`each_object`].
pub(crate) struct Description<'a> {
    pub(crate) name: &'a CStr,
    info: &'a libc::dl_phdr_info,
}

impl Description<'_> {
    /// The path that it was first opened by.
    pub(crate) fn path(&self) -> &Path {
        Path::new(os_str(self.name))
    }

    /// Where it is mapped, with only the segments that allow `access`.
    pub(crate) fn mapping(&self, access: Access) -> Mapping {
        Mapping {
            bias: self.info.dlpi_addr as usize,
            segments: self.segments(access).collect(),
        }
    }

    /// The segments that allow `access`.
    pub(crate) fn segments(&self, access: Access) -> impl Iterator<Item = Range<usize>> {
        let flags = match access {
            Access::Any => 0,
            Access::Read => libc::PF_R,
            Access::Write => libc::PF_W,
            Access::Execute => libc::PF_X,
        };
        let info = self.info;
        // SAFETY: the linker says that `dlpi_phdr` points at `dlpi_phnum` program headers, valid while it lends `info`.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let bias = info.dlpi_addr as usize;
        let wanted =
            move |it: &&libc::Elf64_Phdr| it.p_type == libc::PT_LOAD && it.p_flags & flags == flags;
        headers.iter().filter(wanted).map(move |header| {
            let start = bias.wrapping_add(header.p_vaddr as usize);
            start..start.wrapping_add(header.p_memsz as usize)
        })
    }
}

fn os_str(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}

/// Calls `find` with each mapped object, until it finds something. The linker's lock is held meanwhile.
pub(crate) fn find_object<T>(mut find: impl FnMut(&Description<'_>) -> Option<T>) -> Option<T> {
    let mut found = None;
    visit(&mut |object| {
        found = find(object);
        if found.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    found
}

/// Whether the object that was opened under this name is mapped.
pub(crate) fn is_mapped(name: &CStr) -> bool {
    find_object(|object| (object.name == name).then_some(())).is_some()
}

/// Calls `each` with each mapped object. The linker's lock is held meanwhile.
pub(crate) fn each_object(mut each: impl FnMut(&Description<'_>)) {
    visit(&mut |object| {
        each(object);
        ControlFlow::Continue(())
    });
}

fn visit(visit: &mut dyn FnMut(&Description<'_>) -> ControlFlow<()>) {
    type Visit<'a> = &'a mut dyn FnMut(&Description<'_>) -> ControlFlow<()>;

    unsafe extern "C" fn each(info: *mut libc::dl_phdr_info, _: usize, data: *mut c_void) -> c_int {
        // SAFETY: the linker passes a valid description, which may be read during this call.
        let info = unsafe { &*info };
        // SAFETY: `data` is the `visit` passed below, and nobody else uses it during this call.
        let visit = unsafe { &mut *data.cast::<Visit<'_>>() };
        if info.dlpi_name.is_null() {
            return 0;
        }
        // SAFETY: a name that is not null is a C string.
        let name = unsafe { CStr::from_ptr(info.dlpi_name) };
        visit(&Description { name, info }).is_break().into()
    }

    let mut visit: Visit<'_> = visit;
    // SAFETY: `each` treats its arguments as the linker documents them (man 3 dl_iterate_phdr), and `visit` outlives
    // the call.
    unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut visit).cast()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_glibc_is_a_number() {
        for (version, is_new) in [
            (c"2.4", false),
            (c"2.35", false),
            (c"2.36", true),
            (c"2.36.9000", true),
            (c"2.100", true),
            (c"3.0", true),
        ] {
            assert_eq!(is_glibc(version, 36), is_new, "{version:?}");
        }
    }

    /// A file's addresses need not begin at 0 (`-Wl,--image-base=0x10000000`).
    #[test]
    fn the_bias_is_not_where_the_first_segment_begins() {
        // SAFETY: zeros are a valid header.
        let mut header: libc::Elf64_Phdr = unsafe { std::mem::zeroed() };
        header.p_type = libc::PT_LOAD;
        header.p_flags = libc::PF_R;
        header.p_vaddr = 0x1000_0000;
        header.p_memsz = 0x1000;
        // SAFETY: zeros are a valid description, of nothing.
        let mut info: libc::dl_phdr_info = unsafe { std::mem::zeroed() };
        info.dlpi_addr = 0x7f00_0000_0000;
        info.dlpi_phdr = &raw const header;
        info.dlpi_phnum = 1;
        let object = Description {
            name: c"",
            info: &info,
        };
        let mapping = object.mapping(Access::Read);
        assert_eq!(mapping.bias, 0x7f00_0000_0000);
        assert!(mapping.has(0x7f00_1000_0000, 0x1000) && !mapping.has(0x7f00_1000_0000, 0x1001));
        assert!(!mapping.has(0x7f00_0000_0000, 1) && !mapping.has(usize::MAX, 2));
    }
}
