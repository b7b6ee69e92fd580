//! Which values may leave a plugin's call.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    ffi::{CString, OsString},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::{NonZeroI64, NonZeroU32, NonZeroU64, NonZeroUsize},
    ops::{Range, RangeInclusive},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

pub use hotswap_derive::HostOwned;

/// A type whose values belong to the host alone: they hold no code and no memory of a plugin.
///
/// What [`with`](crate::Hotswap::with) returns must be of such a type, because an abi_stable value is
/// `'static` for the compiler although its code is gone when its plugin is: to drop a plugin's `RString`
/// after that is a segmentation fault. So this compiles:
///
/// ```
/// # use hotswap_core::HostOwned;
/// fn leaves<T: HostOwned>() {}
/// leaves::<()>();
/// leaves::<(u64, String)>();
/// leaves::<Result<Vec<f32>, Box<str>>>();
/// ```
///
/// and these do not: an abi_stable value,
///
/// ```compile_fail,E0277
/// # use hotswap_core::HostOwned;
/// # fn leaves<T: HostOwned>() {}
/// leaves::<abi_stable::std_types::RString>();
/// ```
///
/// a reference, which may lead into the plugin's constants,
///
/// ```compile_fail,E0277
/// # use hotswap_core::HostOwned;
/// # fn leaves<T: HostOwned>() {}
/// leaves::<&'static str>();
/// ```
///
/// a function pointer,
///
/// ```compile_fail,E0277
/// # use hotswap_core::HostOwned;
/// # fn leaves<T: HostOwned>() {}
/// leaves::<fn()>();
/// ```
///
/// and a trait object, whose code may be anywhere:
///
/// ```compile_fail,E0277
/// # use hotswap_core::HostOwned;
/// # fn leaves<T: HostOwned>() {}
/// leaves::<Box<dyn std::error::Error>>();
/// ```
///
/// # Your own types
///
/// Derive it. Every field must be host-owned too:
///
/// ```
/// use hotswap_core::HostOwned;
///
/// #[derive(HostOwned)]
/// struct Answer {
///     text: String,
///     took_ms: u64,
/// }
/// ```
///
/// ```compile_fail,E0277
/// use hotswap_core::HostOwned;
///
/// #[derive(HostOwned)]
/// struct Answer {
///     text: abi_stable::std_types::RString,
///     took_ms: u64,
/// }
/// ```
///
/// Where you know better than the compiler, there is [`AssertHostOwned`]; where a plugin's value must
/// leave together with the right to use it, there is [`Lease::bind`](crate::Lease::bind).
///
/// # Safety
///
/// No value of the type contains, at any depth, a pointer, a reference or a function pointer that can
/// lead into a plugin's image, and dropping one runs no code of a plugin.
#[diagnostic::on_unimplemented(
    message = "`{Self}` may point into the plugin, and cannot leave this call",
    label = "may point into the plugin",
    note = "turn it into a type that the host owns, such as a `String` or a number",
    note = "for a type of your own: `#[derive(hotswap_core::HostOwned)]`"
)]
pub unsafe trait HostOwned {}

/// Lets any value leave, on your word.
///
/// ```
/// use hotswap_core::AssertHostOwned;
///
/// // SAFETY: the string is a constant of this program.
/// let kept = unsafe { AssertHostOwned::new("text") };
/// assert_eq!(kept.into_inner(), "text");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AssertHostOwned<T>(T);

impl<T> AssertHostOwned<T> {
    /// Vouches for `value`.
    ///
    /// # Safety
    ///
    /// For as long as it exists, `value` leads into no image of a plugin that may be unloaded meanwhile.
    pub unsafe fn new(value: T) -> Self {
        Self(value)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

// SAFETY: a value leads into no image that may be unloaded while it exists (`# Safety` of `new`, the only constructor).
unsafe impl<T> HostOwned for AssertHostOwned<T> {}

macro_rules! plain {
    ($($type:ty),* $(,)?) => { $(
        // SAFETY: the value owns all it is made of, and its code is the standard library's in the host.
        unsafe impl HostOwned for $type {}
    )* };
}

plain! {
    NonZeroI64, NonZeroU32, NonZeroU64, NonZeroUsize,
    (), bool, char, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64,
    String, Box<str>, CString, OsString, PathBuf, Duration, Instant, SystemTime,
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, std::cmp::Ordering, std::process::ExitCode,
}

macro_rules! made_of {
    ($($type:ty: $($part:ident),+;)*) => { $(
        // SAFETY: it owns its parts, they are host-owned, and its own code is the host's.
        unsafe impl<$($part: HostOwned),+> HostOwned for $type {}
    )* };
}

made_of! {
    Option<T>: T;
    Result<T, E>: T, E;
    Vec<T>: T;
    VecDeque<T>: T;
    Box<T>: T;
    Box<[T]>: T;
    Arc<T>: T;
    Range<T>: T;
    RangeInclusive<T>: T;
    BTreeSet<T>: T;
    BTreeMap<K, V>: K, V;
    HashSet<T>: T;
    HashMap<K, V>: K, V;
    (A,): A;
    (A, B): A, B;
    (A, B, C): A, B, C;
    (A, B, C, D): A, B, C, D;
    (A, B, C, D, E): A, B, C, D, E;
    (A, B, C, D, E, F): A, B, C, D, E, F;
    (A, B, C, D, E, F, G): A, B, C, D, E, F, G;
    (A, B, C, D, E, F, G, H): A, B, C, D, E, F, G, H;
}

// SAFETY: it owns its elements, and they are host-owned.
unsafe impl<T: HostOwned, const N: usize> HostOwned for [T; N] {}
