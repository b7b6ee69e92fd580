//! An axum server that answers by a plugin, which is replaced while the server runs.
//!
//! ```sh
//! cargo build && cargo run -p hotswap-core --example axum -- target/debug/libplugin.so
//! curl -d hello http://127.0.0.1:3000/process
//! ```
//!
//! Change what `process` gives in `hotswap-plugin/src/code.rs`, run `cargo build`, and swap the new code in:
//!
//! ```sh
//! curl -X POST http://127.0.0.1:3000/swap
//! ```
//!
//! The server listens on loopback only, because anybody who reaches it may swap. One that other machines reach serves
//! `/swap` on a second listener, which is bound to loopback. The example `ws_server` of `hotswap-demo` keeps
//! connections open across swaps, and bounds what one client may take.

use std::{env, future::IntoFuture, io, net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use axum::{Router, extract::State, http::StatusCode, routing::post};
use hotswap_core::{Hotswap, Policy, Trust};
use hotswap_types::Plugin;
use tokio::{
    net::TcpListener,
    runtime, select,
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};

type Shared = Arc<Hotswap<dyn Plugin>>;
type Answer = Result<String, (StatusCode, String)>;

/// How long requests, and after them the plugin, may take to end before the server goes on without them.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let path = arguments.next().context("usage: axum PLUGIN [PORT]")?;
    let port = arguments.next().map_or(Ok(3000), |port| port.parse())?;

    // SAFETY: whoever runs this builds the plugin, and what replaces it. The policy refuses files that other users of
    // this machine could have put there.
    let trust = unsafe { Trust::vouch(Policy::default()) };
    let plugin: Shared = Arc::new(Hotswap::load(path, &trust)?);

    // One thread answers all requests, also while a plugin is loaded.
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(Arc::clone(&plugin), port))?;
    // Ends all tasks. From here on nobody else has the plugin, and nobody calls it.
    drop(runtime);
    let plugin = Arc::into_inner(plugin).context("a task still has the plugin")?;
    for generation in plugin.shutdown(DRAIN_TIMEOUT) {
        eprintln!("still mapped: {generation}");
    }
    Ok(())
}

/// Serves until Ctrl-C or SIGTERM, and then until the requests that are being answered have their answers.
async fn serve(plugin: Shared, port: u16) -> io::Result<()> {
    let routes = Router::new()
        .route("/process", post(process))
        .route("/swap", post(swap))
        .with_state(plugin);
    let (end, cut_off) = (stop_signal()?, stop_signal()?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("listening on http://{}", listener.local_addr()?);

    let serving = axum::serve(listener, routes).with_graceful_shutdown(end);
    select! {
        served = serving.into_future() => served,
        () = async { cut_off.await; sleep(DRAIN_TIMEOUT).await } => {
            eprintln!("some requests have not ended, and are cut off");
            Ok(())
        }
    }
}

/// Answers a request by the live generation. Never waits for a swap; one that happens meanwhile changes nothing for
/// this call.
///
/// A call that takes long belongs in `spawn_blocking`, as any other, or its method is async. A handler that needs the
/// same generation before and after an `.await` takes a `plugin.lease()`.
async fn process(State(plugin): State<Shared>, text: String) -> Answer {
    match plugin.call(|it| it.process(&text)) {
        Ok(answer) => answer.map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error)),
        // It has panicked.
        Err(fault) => Err((StatusCode::INTERNAL_SERVER_ERROR, fault.to_string())),
    }
}

/// Loads the plugin's file again, and says what became of it and of the generation before.
///
/// The path is not taken from the request: a page that makes a browser on this machine post here only has the same file
/// loaded again.
async fn swap(State(plugin): State<Shared>) -> Answer {
    let swapped = plugin.swap_async(plugin.last_accepted()).await;
    // Refused: nothing has changed, and the running generation serves on.
    let swapped =
        swapped.map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n")))?;
    let retired = timeout(DRAIN_TIMEOUT, plugin.wait_async(swapped.retired)).await;
    let retired = retired.ok().flatten();
    let retired = retired.map_or("still in use".to_owned(), |state| state.to_string());
    Ok(format!(
        "generation {} is live, generation {} is {retired}\n",
        swapped.generation, swapped.retired
    ))
}

/// Completes at Ctrl-C or SIGTERM, which end nothing by themselves as soon as this returns.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
