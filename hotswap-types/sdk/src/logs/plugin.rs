//! Installs a plugin's subscriber and its logger, and keeps them up to date with the host's filter.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use super::{
    connection::{self, Connection},
    table::{LogTable, RawLogs},
};
use crate::fault::discard;

/// Connects this plugin with its host. Called once, before the plugin's value is made.
///
/// # Safety
///
/// These are the parts of a [`LogHandle`](super::LogHandle) that was made for this image.
pub(crate) unsafe fn connect(this: *const (), table: *const ()) {
    let table = table.cast::<LogTable>();
    // SAFETY: it is the table of a host, which begins with this in every version (`# Safety` of this function).
    if unsafe { (*table).version } != LogTable::VERSION {
        return;
    }
    let connected = panic::catch_unwind(AssertUnwindSafe(|| {
        let connection = connection::set(RawLogs { this, table });
        connection.attach(refresh);
        install(connection);
    }));
    if let Err(payload) = connected {
        discard(payload);
    }
}

/// The host's filter may have changed.
extern "C" fn refresh() {
    let refreshed = panic::catch_unwind(AssertUnwindSafe(|| {
        let Some(connection) = connection::get() else {
            return;
        };
        install(connection);
        #[cfg(feature = "tracing")]
        super::subscriber::refresh();
        #[cfg(feature = "log")]
        super::records::refresh(connection);
    }));
    if let Err(payload) = refreshed {
        discard(payload);
    }
}

/// Installs what is not installed yet, once the host has a subscriber: tracing-core keeps some memory for good.
fn install(connection: Connection) {
    static INSTALLED: Once = Once::new();
    if connection.max_level() > 0 {
        INSTALLED.call_once(|| {
            #[cfg(feature = "tracing")]
            super::subscriber::install(connection);
            #[cfg(feature = "log")]
            {
                super::records::install();
                super::records::refresh(connection);
            }
        });
    }
}
