//! Who may come in: connections, their number, their first request, and the page.

use std::{
    fmt::Display,
    io::{Read, Write},
    net::{IpAddr, Shutdown},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::server::create_response_with_body,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::{
    address::{Bounds, PerAddress, Place},
    connection::{self, Form},
    service::{MESSAGE_BYTES_MAX, Service},
    signals::Stop,
    site,
};

/// How many connections there may be beside the websockets, and how long each of them may take for everything.
pub(crate) const HTTP_ONLY_MAX: usize = 64;
const HTTP_DEADLINE: Duration = Duration::from_secs(10);

/// How many of those one address may have beside its websockets.
const HTTP_ONLY_PER_ADDRESS_MAX: usize = 16;

/// Who asks for this subprotocol is answered in JSON, and told what changes.
const JSON: &str = "hotswap-json";

/// The page, with `NONCE` where the browser is to recognise its own script and style.
const PAGE: &str = include_str!("page.html");

/// What is read at once. Each connection keeps so much memory while it is idle.
const READ_BYTES: usize = 4 * 1024;

/// What connections have in common before they are let in.
pub(crate) struct Door {
    hosts: Vec<String>,
    connections: u32,
    patience: Duration,
    stop: Stop,
    /// One permit for each connection, whatever it is used for,
    all: Arc<Semaphore>,
    /// and one for each websocket.
    websockets: Arc<Semaphore>,
    /// The same for each address.
    all_of_address: Arc<PerAddress>,
    websockets_of_address: Arc<PerAddress>,
}

/// One connection before it is a websocket.
#[derive(Clone)]
struct Visit {
    door: Arc<Door>,
    service: Arc<Service>,
    address: IpAddr,
    permit: Arc<(OwnedSemaphorePermit, Place)>,
}

/// Why a request is turned away.
pub(crate) type Refusal = (StatusCode, String);

impl Door {
    pub(crate) fn new(
        hosts: Vec<String>,
        connections: u32,
        connections_per_address: Option<u32>,
        patience: Duration,
        stop: Stop,
    ) -> Self {
        let websockets = connections as usize;
        let of_address = Bounds::new(connections, connections_per_address);
        Self {
            hosts,
            connections,
            patience,
            stop,
            all: Arc::new(Semaphore::new(websockets + HTTP_ONLY_MAX)),
            websockets: Arc::new(Semaphore::new(websockets)),
            all_of_address: PerAddress::new(of_address.with(HTTP_ONLY_PER_ADDRESS_MAX)),
            websockets_of_address: PerAddress::new(of_address),
        }
    }

    /// Waits until all connections are closed, at most so long.
    pub(crate) async fn all_have_left(&self, deadline: Duration) -> bool {
        let all = self.connections + HTTP_ONLY_MAX as u32;
        timeout(deadline, self.all.acquire_many(all)).await.is_ok()
    }
}

/// Serves whoever connects, until there is a stop. While there are as many connections as there may be, others wait
/// in the system's queue. An address that has as many as it may have is turned away.
pub(crate) async fn accept(listener: TcpListener, door: &Arc<Door>, service: &Arc<Service>) {
    /// Before the next try when the system has no more files or memory for connections.
    const PAUSE: Duration = Duration::from_millis(100);
    let mut stop = door.stop.clone();
    loop {
        let next = async {
            let permit = Arc::clone(&door.all).acquire_owned().await;
            (permit.expect("never closed"), listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = stop.asked() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(place) = door.all_of_address.take(peer.ip()) else {
                    turn_away(stream, door.all_of_address.places_max(peer.ip()));
                    continue;
                };
                let visit = Visit {
                    door: Arc::clone(door),
                    service: Arc::clone(service),
                    address: peer.ip(),
                    permit: Arc::new((permit, place)),
                };
                tokio::spawn(receive(stream, visit));
            }
            Err(error) => {
                eprintln!("a connection cannot be accepted: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Answers before there is a request, and waits for nobody: whoever has too many connections has no use of one more.
fn turn_away(stream: TcpStream, places_max: usize) {
    let (status, text) = too_many(places_max);
    let length = text.len();
    let response = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {length}\r\n\r\n{text}"
    );
    let answer = || {
        let mut stream = stream.into_std()?;
        // So little always fits into what the system buffers for a new connection.
        stream.write_all(response.as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        // To close while something is unread would be a reset, which may reach the client before the answer does. This
        // takes what has come by now.
        stream.read(&mut [0; READ_BYTES])
    };
    // Whatever goes wrong, it ends here.
    let _ = answer();
}

/// Answers the requests on a connection, until it ends or becomes a websocket.
async fn receive(stream: TcpStream, visit: Visit) {
    // Answers are small, and not to wait for others. Without that they are only slower.
    let _ = stream.set_nodelay(true);
    let mut stop = visit.door.stop.clone();
    let routes = Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/ws", get(upgrade));
    let routes = TowerToHyperService::new(routes.with_state(visit));
    let http = http1::Builder::new().serve_connection(TokioIo::new(stream), routes);
    tokio::select! {
        // Whatever goes wrong has ended this connection, and is nobody else's matter.
        _ = timeout(HTTP_DEADLINE, http.with_upgrades()) => {}
        () = stop.asked() => {}
    }
}

async fn page(
    State(visit): State<Visit>,
    target: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    site::check(&visit.door.hosts, &target, &headers)?;
    let nonce = nonce();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, &policy),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, PAGE.replace("NONCE", &nonce)).into_response())
}

async fn metrics(
    State(visit): State<Visit>,
    target: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    site::check(&visit.door.hosts, &target, &headers)?;
    let headers = [
        (
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, visit.service.metrics()).into_response())
}

/// The handshake is tungstenite's and not axum's own, which keeps the stream to itself and errors without their kind:
/// `connection` needs both to say why it closes.
async fn upgrade(State(visit): State<Visit>, mut request: Request) -> Result<Response, Refusal> {
    site::check_page(&visit.door.hosts, request.uri(), request.headers())?;
    let refused = |error: &dyn Display| (StatusCode::BAD_REQUEST, format!("{error}\n"));
    let mut response =
        create_response_with_body(&request, Body::empty).map_err(|error| refused(&error))?;
    let Ok(seat) = Arc::clone(&visit.door.websockets).try_acquire_owned() else {
        let connections = visit.door.connections;
        let reason = format!("all {connections} connections are taken\n");
        return Err((StatusCode::SERVICE_UNAVAILABLE, reason));
    };
    let of_address = &visit.door.websockets_of_address;
    let Some(place) = of_address.take(visit.address) else {
        return Err(too_many(of_address.places_max(visit.address)));
    };
    let form = if asks_for_json(request.headers()) {
        let headers = response.headers_mut();
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(JSON),
        );
        Form::Json
    } else {
        Form::Text
    };
    let upgrading = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // Whoever does not wait for the answer has gone.
        let Ok(upgraded) = upgrading.await else {
            return;
        };
        let parts = upgraded.downcast::<TokioIo<TcpStream>>();
        let parts = parts.expect("it is what `receive` has served");
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let socket = WebSocketStream::from_partially_read(
            parts.io.into_inner(),
            parts.read_buf.into(),
            Role::Server,
            Some(config),
        );
        let Visit {
            door,
            service,
            address: _,
            permit,
        } = visit;
        connection::serve(
            socket.await,
            form,
            &service,
            door.patience,
            door.stop.clone(),
        )
        .await;
        drop((seat, place, permit));
    });
    Ok(response)
}

/// Why an address that has as many places as it may have gets no more.
fn too_many(places_max: usize) -> Refusal {
    let reason = format!("all {places_max} connections of this address are taken\n");
    (StatusCode::TOO_MANY_REQUESTS, reason)
}

fn asks_for_json(headers: &HeaderMap) -> bool {
    let protocols = text(headers, header::SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
    protocols.split(',').any(|it| it.trim() == JSON)
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Nobody can guess it.
fn nonce() -> String {
    let mut bytes = [0; 16];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty());
    assert_eq!(filled, Ok(bytes.len()), "so few are never interrupted");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
