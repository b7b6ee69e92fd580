//! Services of the host: values of the host's own, which the constructor of a plugin can take.
//!
//! Each generation gets handles of its own. A plugin's proxies only borrow them: the host keeps them until the plugin's
//! image is gone. So a proxy that a plugin keeps in a static, which is never dropped, leaves nothing behind.

use std::{fmt, ops::Deref, ptr, sync::Arc};

use super::{
    call::{Dispatch, RawRemote},
    compare::compare_for_plugin,
    described::{Described, describe, name_of},
    description::Description,
    object::{DispatchTarget, LeaseSource, Leases, RawObject, drop_quietly},
    refused::{Refused, check_version},
    requirement::Requirement,
};

/// The services that a host has for its plugins, each with its interface.
///
/// ```
/// use std::{sync::Arc, time::SystemTime};
/// use hotswap_sdk::host::HostServices;
///
/// #[hotswap_sdk::interface]
/// pub trait Clock {
///     fn now(&self) -> SystemTime;
/// }
///
/// struct SystemClock;
///
/// impl Clock for SystemClock {
///     fn now(&self) -> SystemTime {
///         SystemTime::now()
///     }
/// }
///
/// let services = HostServices::new().with::<dyn Clock>(Arc::new(SystemClock));
/// # drop(services);
/// ```
#[derive(Clone, Default)]
pub struct HostServices(Vec<Arc<dyn AnyHostService>>);

/// An interface that a host service can have: every trait with [`#[interface]`](macro@crate::interface).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an interface",
    label = "not an interface",
    note = "mark the trait with `#[hotswap_sdk::interface]`"
)]
pub trait HostService: Described + Dispatch<ServiceTarget<Self>> + Send + Sync {}

impl<I: Described + Dispatch<ServiceTarget<I>> + Send + Sync + ?Sized> HostService for I {}

/// What the vtable of a service is for.
pub struct ServiceTarget<I: ?Sized> {
    service: Arc<I>,
    leases: Leases,
}

/// A service as one generation uses it. Keep it until the generation's image is gone.
pub struct LentService(Option<Arc<dyn Send + Sync>>);

/// A service of any interface.
trait AnyHostService: Send + Sync {
    fn name(&self) -> String;

    fn interface(&self) -> Description;

    /// A handle that is valid until the result is dropped.
    fn lend(&self, leases: Leases) -> (RawObject, LentService);
}

struct Service<I: ?Sized>(Arc<I>);

impl HostServices {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a service. A plugin's constructor takes it as a `Box<dyn Trait>`. It replaces one with the same interface.
    #[must_use]
    pub fn with<I: HostService + ?Sized>(mut self, service: Arc<I>) -> Self {
        let name = name_of::<I>();
        self.0.retain(|it| it.name() != name);
        self.0.push(Arc::new(Service(service)));
        self
    }

    /// The interfaces: their packages and their traits.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|it| it.name()).collect()
    }

    /// The handles for a constructor with these requirements, in their order, and what keeps them valid.
    ///
    /// # Errors
    ///
    /// A service is missing, or its interface differs.
    pub(super) fn lend(
        &self,
        requirements: &[Requirement],
        leases: &Arc<dyn LeaseSource>,
    ) -> Result<(Vec<RawObject>, Vec<LentService>), Refused> {
        let mut handles = Vec::new();
        let mut lent = Vec::new();
        for Requirement {
            interface,
            is_optional,
        } in requirements
        {
            let service = self.0.iter().find(|it| it.name() == interface.name);
            let Some(service) = service else {
                if !is_optional {
                    return Err(Refused::MissingHostService(interface.name.clone()));
                }
                handles.push(RawObject::NONE);
                continue;
            };
            let expected = service.interface();
            check_version(&expected, interface)?;
            compare_for_plugin(&expected, interface).map_err(|difference| {
                Refused::Layout(format!("the host service {}: {difference}", interface.name))
            })?;
            let (handle, service) = service.lend(Some(Arc::clone(leases)));
            handles.push(handle);
            lent.push(service);
        }
        Ok((handles, lent))
    }
}

impl<I: HostService + ?Sized> AnyHostService for Service<I> {
    fn name(&self) -> String {
        name_of::<I>()
    }

    fn interface(&self) -> Description {
        describe::<I>()
    }

    fn lend(&self, leases: Leases) -> (RawObject, LentService) {
        let target = Arc::new(ServiceTarget {
            service: Arc::clone(&self.0),
            leases,
        });
        let handle = RawObject {
            remote: RawRemote {
                this: Arc::as_ptr(&target).cast(),
                entries: I::VTABLE.as_ptr(),
                count: I::VTABLE.len(),
            },
            drop: drop_nothing,
        };
        (handle, LentService(Some(target)))
    }
}

impl RawObject {
    /// Stands for an object that is not there.
    const NONE: Self = Self {
        remote: RawRemote {
            this: ptr::null(),
            entries: ptr::null(),
            count: 0,
        },
        drop: drop_nothing,
    };
}

/// A plugin's proxy of a service only borrows it.
unsafe extern "C" fn drop_nothing(_: *const ()) {}

impl<I: ?Sized> Deref for ServiceTarget<I> {
    type Target = I;

    #[inline]
    fn deref(&self) -> &I {
        &self.service
    }
}

impl<I: ?Sized> DispatchTarget for ServiceTarget<I> {
    #[inline]
    fn leases(&self) -> &Leases {
        &self.leases
    }
}

impl Drop for LentService {
    fn drop(&mut self) {
        drop_quietly(self.0.take());
    }
}

impl fmt::Debug for HostServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostServices").field(&self.names()).finish()
    }
}
