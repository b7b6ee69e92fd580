//! A TLS client that meets a server which speaks something else. OpenSSL keeps what it has been given for later:
//! callbacks for the data that the crate attaches to its objects, and functions to call when a thread or the process
//! ends.

use std::{io::Write as _, os::unix::net::UnixStream};

use openssl::{
    error::ErrorStack,
    ssl::{HandshakeError, Ssl, SslContext, SslMethod, SslVerifyMode},
};

#[cfg(feature = "unloadable")]
hotswap_unload::unloadable!();
support::plugin!(work);

fn work(text: &str) -> Result<String, String> {
    let (client, mut server) = UnixStream::pair().map_err(|error| error.to_string())?;
    server
        .write_all(b"220 this is no TLS\r\n")
        .map_err(|error| error.to_string())?;
    drop(server);
    let ssl = ssl().map_err(|error| error.to_string())?;
    match ssl.connect(client) {
        Err(HandshakeError::Failure(stream)) => Ok(format!("{}: {text}", stream.error())),
        Err(error) => Err(format!("another error than expected: {error}")),
        Ok(_) => Err("a handshake with nobody".to_owned()),
    }
}

fn ssl() -> Result<Ssl, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    context.set_verify(SslVerifyMode::NONE);
    Ssl::new(&context.build())
}
