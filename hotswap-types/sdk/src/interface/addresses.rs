//! Addresses of the internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::{
    data::{Data, ReadContext, ReadError},
    description::{TypeIndex, Types},
    sequences::IndirectSlice,
};

/// The view of an address of the internet, with a port or without.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Address {
    /// One of version 4 has 0 in the last twelve.
    bytes: [u8; 16],
    is_v4: bool,
    port: u16,
    flow_info: u32,
    scope: u32,
}

impl Address {
    fn new(address: IpAddr) -> Self {
        let bytes = match address {
            IpAddr::V4(address) => {
                std::array::from_fn(|at| address.octets().get(at).copied().unwrap_or(0))
            }
            IpAddr::V6(address) => address.octets(),
        };
        Self {
            bytes,
            is_v4: address.is_ipv4(),
            port: 0,
            flow_info: 0,
            scope: 0,
        }
    }

    fn v4(self) -> Ipv4Addr {
        let [a, b, c, d, ..] = self.bytes;
        Ipv4Addr::new(a, b, c, d)
    }

    fn v6(self) -> Ipv6Addr {
        self.bytes.into()
    }

    fn ip(self) -> IpAddr {
        match self.is_v4 {
            true => self.v4().into(),
            false => self.v6().into(),
        }
    }
}

macro_rules! addresses {
    ($($type:ty: $name:literal, with $it:ident: $view:expr, with $view_name:ident: $read:expr;)*) => { $(
        // SAFETY: the view is numbers, in `repr(C)`.
        #[diagnostic::do_not_recommend]
        unsafe impl Data for $type {
            type View = Address;
            type Slice = IndirectSlice<Address>;

            fn view(&self) -> Address {
                let $it = *self;
                $view
            }

            unsafe fn read($view_name: Address, _: ReadContext<'_>) -> Result<Self, ReadError> {
                Ok($read)
            }

            fn describe(types: &mut Types) -> TypeIndex {
                types.named::<Self>($name, &[])
            }
        }
    )* };
}

addresses! {
    Ipv4Addr: "Ipv4Addr", with it: Address::new(it.into()), with view: view.v4();
    Ipv6Addr: "Ipv6Addr", with it: Address::new(it.into()), with view: view.v6();
    IpAddr: "IpAddr", with it: Address::new(it), with view: view.ip();
    SocketAddr: "SocketAddr",
        with it: match it {
            SocketAddr::V4(it) => Address { port: it.port(), ..Address::new((*it.ip()).into()) },
            SocketAddr::V6(it) => Address {
                port: it.port(),
                flow_info: it.flowinfo(),
                scope: it.scope_id(),
                ..Address::new((*it.ip()).into())
            },
        },
        with view: match view.is_v4 {
            true => (view.v4(), view.port).into(),
            false => SocketAddrV6::new(view.v6(), view.port, view.flow_info, view.scope).into(),
        };
}
