//! The plugin behind a gRPC service of tonic.

use std::{env, error::Error, sync::Arc};

use hotswap_core::{Hotswap, Policy, Trust};
use interface::{Parcel, Postage};
use proto::postage_server::PostageServer;
use tonic::{Request, Response, Status, transport::Server};

mod proto {
    tonic::include_proto!("postage");
}

struct Service(Arc<Hotswap<dyn Postage>>);

#[tonic::async_trait]
impl proto::postage_server::Postage for Service {
    async fn cents(&self, request: Request<proto::Parcel>) -> Result<Response<proto::Price>, Status> {
        let proto::Parcel { grams, country } = request.into_inner();
        let parcel = Parcel { grams, country };
        let cents = self.0.call(|it| it.cents(&parcel));
        let cents = cents.map_err(|fault| Status::internal(fault.to_string()))?;
        let cents = cents.map_err(Status::invalid_argument)?;
        Ok(Response::new(proto::Price { cents }))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: tonic PLUGIN")?;
    // SAFETY: we build the plugin ourselves.
    let trust = unsafe { Trust::vouch(Policy::default()) };
    let postage = Arc::new(Hotswap::load(path, &trust)?);
    let service = PostageServer::new(Service(postage));
    Server::builder().add_service(service).serve(([127, 0, 0, 1], 3000).into()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto::postage_client::PostageClient;
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;

    use super::*;

    #[tokio::test]
    async fn it_answers() {
        let path = hotswap_dev::build(hotswap_dev::DevSettings::default());
        let path = path.unwrap_or_else(|error| panic!("{error}"));
        // SAFETY: built from this workspace.
        let trust = unsafe { Trust::vouch(Policy::default()) };
        let postage = Arc::new(Hotswap::load(path, &trust).unwrap());
        let service = PostageServer::new(Service(Arc::clone(&postage)));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = TcpListenerStream::new(listener);
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));

        let mut client = PostageClient::connect(format!("http://{address}")).await.unwrap();
        let parcel = |grams| proto::Parcel { grams, country: "NL".to_owned() };
        assert_eq!(client.cents(parcel(1500)).await.unwrap().into_inner().cents, 450);
        postage.swap_async(postage.last_accepted()).await.unwrap();
        let refused = client.cents(parcel(9000)).await.unwrap_err();
        assert_eq!(refused.message(), "9000 g to NL is too heavy");
    }
}
