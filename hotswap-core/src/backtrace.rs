//! A stack trace that names frames in plugins by their generation.
//!
//! `std::backtrace` lists the mapped libraries once for the process, and keeps what it has read of their symbols. Where
//! a plugin was swapped, std shows names of an earlier image that had the same addresses, or none (std of Rust 1.95,
//! 2026-11). So this keeps nothing between two traces: it notes the image of each frame when the
//! trace is taken, and reads the symbols of just these images when the trace is shown.

use std::{
    collections::HashMap,
    fmt::{self, Display},
    path::Path,
    sync::{Arc, Weak},
};

use addr2line::Loader;

use crate::{
    crash::{self, ImageFile},
    escape::{Escaped, one_line},
    system::{
        linker::{self, Access},
        proc, stack,
    },
};

/// The stack of the thread that has taken it, which names frames in plugins by their generation.
///
/// Use it instead of [`std::backtrace::Backtrace`], which shows wrong names after a swap, or none: it reads the list of
/// libraries once, and takes the code of the new generation for that of an earlier one at the same addresses.
///
/// [`capture`](Self::capture) notes addresses, and of each frame in a plugin the generation, the package, the build id
/// and the offset. Showing it reads the names, from the symbols and the debug information of the host's program and of
/// plugins that are still mapped: for a large program some tenths of a second each time, because nothing is kept. A
/// frame in a plugin that has been unloaded meanwhile is shown as `<unloaded>`, with its generation and offset. Frames
/// in other libraries are shown as the library and the offset.
///
/// It has at most 512 frames. Where code was compiled without unwind tables, or the stack is damaged, it ends early. It
/// keeps no plugin mapped.
///
/// # Examples
///
/// ```
/// use hotswap_core::Backtrace;
///
/// #[inline(never)]
/// fn who_calls() -> Backtrace {
///     Backtrace::capture()
/// }
///
/// assert!(who_calls().to_string().contains("who_calls"));
/// ```
///
/// A frame in a plugin:
///
/// ```text
///    4: <rules::Rules as rules_types::Rules>::judge
///              at rules/src/lib.rs:12
///              in generation 2 of librules.so, at offset 0x48c30 (rules 0.2.0, build id 3f9a01c2…)
/// ```
pub struct Backtrace {
    frames: Vec<Frame>,
}

#[derive(Clone)]
struct Frame {
    address: usize,
    /// The object that has it, and the address in the file. `None`: no object is mapped there.
    place: Option<(Arc<Object>, usize)>,
}

/// What has the code of a frame.
struct Object {
    /// As in "generation 2 of librules.so", or the path of a library.
    name: String,
    /// Package and build id, with brackets: shown with the first frame only.
    details: String,
    file: File,
}

/// Where the symbols of an object are.
enum File {
    Plugin(Option<Weak<dyn ImageFile>>),
    Program,
    /// The file at a library's path may be another one by now, so it is not read.
    Library,
}

impl Backtrace {
    /// Takes the stack of the calling thread, from the caller outwards. Costs some microseconds a frame, and waits for
    /// the dynamic linker's lock. Not for signal handlers. On systems other than Linux with glibc, no
    /// stack can be read yet.
    #[inline(never)]
    #[must_use]
    pub fn capture() -> Self {
        let frames = stack::frames().into_iter();
        let mut frames: Vec<_> = frames
            .map(|address| Frame {
                address,
                place: None,
            })
            .collect();
        find_plugins(&mut frames);
        find_libraries(&mut frames);
        Self { frames }
    }
}

/// Finds frames in images of plugins.
fn find_plugins(frames: &mut [Frame]) {
    let images = crash::images();
    for image in images.iter() {
        let mut object = None;
        for frame in frames.iter_mut() {
            let Some(offset) = image.offset(frame.address) else {
                continue;
            };
            let object = object.get_or_insert_with(|| {
                let (name, details) = image.describe();
                Arc::new(Object {
                    name,
                    details,
                    file: File::Plugin(image.file()),
                })
            });
            frame.place = Some((Arc::clone(object), offset));
        }
    }
}

/// Finds frames in the program and in libraries, but not in plugins.
fn find_libraries(frames: &mut [Frame]) {
    let mut is_first = true;
    linker::each_object(|mapped| {
        // The program is the first (man 3 dl_iterate_phdr). It has no name.
        let is_program = std::mem::take(&mut is_first);
        let code = mapped.mapping(Access::Execute);
        let mut object = None;
        for frame in frames.iter_mut().filter(|frame| frame.place.is_none()) {
            if !code.has(frame.address, 1) {
                continue;
            }
            let object = object.get_or_insert_with(|| {
                Arc::new(Object {
                    name: if is_program {
                        "the host".to_owned()
                    } else {
                        one_line(&mapped.name.to_string_lossy())
                    },
                    details: String::new(),
                    file: if is_program {
                        File::Program
                    } else {
                        File::Library
                    },
                })
            });
            frame.place = Some((Arc::clone(object), frame.address.wrapping_sub(code.bias)));
        }
    });
}

/// What is shown of a frame's function: of several, if calls were inlined, the innermost first.
struct Function {
    name: String,
    /// File and line, as far as they are known.
    location: Option<(String, Option<u32>)>,
}

/// The symbols of the objects that a trace goes through, each read once.
#[derive(Default)]
struct Symbols(HashMap<*const Object, Source>);

/// The symbols of one object.
enum Source {
    Loaded(Box<Loaded>),
    /// They cannot be read, or nobody looks for them.
    Unknown,
    Unloaded,
}

struct Loaded {
    symbols: Loader,
    /// The plugin's file must not be closed while its symbols are read.
    _file: Option<Arc<dyn ImageFile>>,
}

impl Symbols {
    fn of(&mut self, object: &Arc<Object>) -> &Source {
        self.0
            .entry(Arc::as_ptr(object))
            .or_insert_with(|| Source::of(object))
    }
}

impl Source {
    fn of(object: &Object) -> Self {
        let load = |path: &Path, file| match Loader::new(path) {
            Ok(symbols) => Self::Loaded(Box::new(Loaded {
                symbols,
                _file: file,
            })),
            Err(_) => Self::Unknown,
        };
        match &object.file {
            File::Plugin(file) => {
                let Some(file) = file.as_ref().and_then(Weak::upgrade) else {
                    return Self::Unloaded;
                };
                let Ok(path) = file.path() else {
                    return Self::Unknown;
                };
                load(&path, Some(file))
            }
            File::Program => load(&proc::program(), None),
            File::Library => Self::Unknown,
        }
    }

    /// The functions at an address of the file.
    fn functions(&self, offset: usize) -> Vec<Function> {
        let Self::Loaded(loaded) = self else {
            return Vec::new();
        };
        let address = offset as u64;
        let mut functions = Vec::new();
        if let Ok(mut frames) = loaded.symbols.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let Some(name) = frame.function.as_ref().and_then(|it| it.demangle().ok()) else {
                    continue;
                };
                let location = frame.location.and_then(|it| Some((it.file?, it.line)));
                functions.push(Function {
                    name: one_line(&name),
                    location: location.map(|(file, line)| (Escaped(file).to_string(), line)),
                });
            }
        }
        if functions.is_empty()
            && let Some(symbol) = loaded.symbols.find_symbol(address)
        {
            functions.push(Function {
                name: one_line(&addr2line::demangle_auto(symbol.into(), None)),
                location: None,
            });
        }
        functions
    }
}

impl Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.frames.is_empty() {
            return writeln!(f, "the stack cannot be read");
        }
        let mut symbols = Symbols::default();
        let mut described: Vec<*const Object> = Vec::new();
        for (index, frame) in self.frames.iter().enumerate() {
            let Some((object, offset)) = &frame.place else {
                writeln!(f, "{index:>4}: {:#x}, where no code is", frame.address)?;
                continue;
            };
            let source = symbols.of(object);
            let functions = source.functions(*offset);
            let unnamed = match source {
                Source::Unloaded => "<unloaded>",
                Source::Unknown | Source::Loaded(_) => "<unknown>",
            };
            if functions.is_empty() {
                writeln!(f, "{index:>4}: {unnamed}")?;
            }
            for (depth, function) in functions.iter().enumerate() {
                match depth {
                    0 => writeln!(f, "{index:>4}: {}", function.name)?,
                    _ => writeln!(f, "      {}", function.name)?,
                }
                match &function.location {
                    Some((file, Some(line))) => writeln!(f, "             at {file}:{line}")?,
                    Some((file, None)) => writeln!(f, "             at {file}")?,
                    None => {}
                }
            }
            if !matches!(object.file, File::Program) || functions.is_empty() {
                write!(f, "             in {}, at offset {offset:#x}", object.name)?;
                let (details, object) = (&object.details, Arc::as_ptr(object));
                if !described.contains(&object) {
                    described.push(object);
                    f.write_str(details)?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backtrace")
            .field("frames", &self.frames.len())
            .finish_non_exhaustive()
    }
}
