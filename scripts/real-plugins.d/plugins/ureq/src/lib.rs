//! A request over TLS, by rustls, to the server that the host runs.

use std::{
    env,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};

#[cfg(feature = "unloadable")]
hotswap_unload::unloadable!(before_unload = stop);
support::plugin!(work);

static AGENT: Mutex<Option<Agent>> = Mutex::new(None);

fn work(text: &str) -> Result<String, String> {
    let variable = |name| env::var(name).map_err(|error| format!("{name}: {error}"));
    let answer = agent(&variable("REAL_PLUGINS_CERTIFICATE")?)
        .and_then(|agent| {
            agent
                .post(variable("REAL_PLUGINS_URL").unwrap_or_default())
                .send(text)
        })
        .and_then(|mut answer| answer.body_mut().read_to_string());
    answer.map_err(|error| error.to_string())
}

fn agent(certificate: &str) -> Result<Agent, ureq::Error> {
    let mut agent = lock();
    if agent.is_none() {
        let certificate = Certificate::from_pem(certificate.as_bytes())?;
        let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[certificate]));
        *agent = Some(
            Agent::config_builder()
                .tls_config(tls.build())
                .build()
                .new_agent(),
        );
    }
    Ok(agent.as_ref().expect("made above").clone())
}

/// Closes the connections that the agent keeps.
#[cfg(feature = "unloadable")]
fn stop() {
    drop(lock().take());
}

fn lock() -> MutexGuard<'static, Option<Agent>> {
    AGENT.lock().unwrap_or_else(PoisonError::into_inner)
}
