//! A request over TLS, by reqwest and rustls, in an async method of a trait.

use std::env;

use reqwest::{Certificate, Client};
use support::AsyncPlugin;

struct Plugin {
    client: Client,
    url: String,
}

impl Plugin {
    fn new() -> Result<Self, String> {
        let variable = |name| env::var(name).map_err(|error| format!("{name}: {error}"));
        let certificate = variable("REAL_PLUGINS_CERTIFICATE")?;
        let certificate = Certificate::from_pem(certificate.as_bytes());
        let client = certificate.and_then(|certificate| {
            let client = Client::builder().use_rustls_tls();
            client.add_root_certificate(certificate).build()
        });
        Ok(Self {
            client: client.map_err(|error| error.to_string())?,
            url: variable("REAL_PLUGINS_URL")?,
        })
    }

    async fn post(&self, text: String) -> Result<String, reqwest::Error> {
        let answer = self.client.post(&self.url).body(text).send().await?;
        answer.text().await
    }
}

#[hotswap_sdk::plugin(make = Plugin::new, runtime = "tokio")]
impl AsyncPlugin for Plugin {
    async fn process(&self, text: String) -> Result<String, String> {
        let build = if cfg!(feature = "b") { "B" } else { "A" };
        match self.post(text).await {
            Ok(text) => Ok(format!("{build} {text}")),
            Err(error) => Err(format!("{error:?}")),
        }
    }
}
