//! A connection that is opened at the first call and closed before the plugin is unloaded, with a function that SQLite
//! calls back.
//!
//! With a bundled SQLite, each generation has a database of its own: two copies of SQLite in one process drop each
//! other's file locks, and would damage a database that they share.

use std::{
    env,
    path::PathBuf,
    process,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use rusqlite::{Connection, functions::FunctionFlags};

#[cfg(feature = "unloadable")]
hotswap_unload::unloadable!(before_unload = stop);
support::plugin!(work);

static DATABASE: Mutex<Option<Database>> = Mutex::new(None);

struct Database {
    connection: Connection,
    path: PathBuf,
}

fn work(text: &str) -> Result<String, String> {
    count(text).map_err(|error| error.to_string())
}

fn count(text: &str) -> rusqlite::Result<String> {
    let mut database = database();
    if database.is_none() {
        *database = Some(Database::open()?);
    }
    let connection = &database.as_ref().expect("opened above").connection;
    connection.execute("insert into calls values (?1)", [text])?;
    connection.query_row(
        "select count(*) || ' calls, ' || length_of(text) || ' bytes' from calls",
        [],
        |row| row.get(0),
    )
}

#[cfg(feature = "unloadable")]
fn stop() {
    if let Some(Database { connection, path }) = database().take() {
        drop(connection);
        if cfg!(feature = "bundled") {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn database() -> MutexGuard<'static, Option<Database>> {
    DATABASE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Database {
    fn open() -> rusqlite::Result<Self> {
        let age = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let name = match cfg!(feature = "bundled") {
            true => format!("real-plugins-{}-{}.sqlite", process::id(), age.as_nanos()),
            false => format!("real-plugins-{}.sqlite", process::id()),
        };
        let path = env::temp_dir().join(name);
        let connection = Connection::open(&path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute_batch(
            "pragma journal_mode = wal; pragma synchronous = off; create table if not exists calls (text)",
        )?;
        connection.create_scalar_function(
            "length_of",
            1,
            FunctionFlags::SQLITE_UTF8,
            |context| Ok(context.get::<String>(0)?.len() as i64),
        )?;
        Ok(Self { connection, path })
    }
}
