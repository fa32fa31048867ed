//! The addresses for monitoring: `/metrics`, `/health` (the worker lives), `/ready` (every sink is up, and nothing is set aside).
//!
//! Served by a thread of its own with a runtime of its own: nothing of it waits for a sink or for PostgreSQL, so that it answers when
//! they do not. It takes nothing but GET and shows no row and no secret.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::sync::Semaphore;

use super::{Backlog, metrics};
use crate::deliver::Status;
use crate::errors::{Error, Kind, Result};

/// How many people may ask at once, and how long they may take to say what.
const CONNECTIONS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(10);
/// A worker whose couriers have been silent for longer does not live.
const SILENT: Duration = Duration::from_secs(300);

/// Where to listen, as it stands on the command line: `127.0.0.1:19187`, `localhost:19187`, or only a port, of this machine alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(Vec<SocketAddr>);

impl FromStr for Addresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = match text.strip_prefix(':').unwrap_or(text) {
            port if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => format!("127.0.0.1:{port}"),
            _ => text.to_owned(),
        };
        match address.to_socket_addrs().map(Iterator::collect::<Vec<_>>) {
            Ok(all) if !all.is_empty() => Ok(Addresses(all)),
            Ok(_) => Err(format!("`{text}` leads nowhere")),
            Err(error) => Err(format!("{error}: write `ADDRESS:PORT` or `PORT`, `127.0.0.1:19187`")),
        }
    }
}

/// Begins to listen, in a thread of its own, as long as the program runs.
///
/// # Errors
/// An address that cannot be listened to.
pub fn listen(addresses: &[Addresses], status: &Status, backlog: &Backlog) -> Result<()> {
    metrics::begin();
    let mut listeners = Vec::new();
    for address in addresses.iter().flat_map(|addresses| &addresses.0) {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (local, listener) = bound.map_err(|error| {
            Error::new(Kind::Failed, error)
                .context(format!("failed to listen to {address}"))
                .hint("give `--listen` another address")
        })?;
        tracing::info!("listening on http://{local}");
        listeners.push(listener);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = Arc::new((status.clone(), backlog.clone()));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    std::thread::Builder::new()
        .name("emaj-listen".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                let mut all = tokio::task::JoinSet::new();
                for listener in listeners {
                    all.spawn(serve(listener, Arc::clone(&asked), Arc::clone(&room)));
                }
                all.join_all().await;
            });
        })?;
    Ok(())
}

type Asked = Arc<(Status, Backlog)>;

async fn serve(listener: TcpListener, asked: Asked, room: Arc<Semaphore>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("cannot listen: {error}"),
    };
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file handles, most often: trying at once would only burn the processor.
                tracing::warn!("cannot take a connection: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let asked = Arc::clone(&asked);
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(move |request| {
                let asked = Arc::clone(&asked);
                async move { Ok::<_, Infallible>(answer(&request, &asked.0, &asked.1)) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service);
            // Whoever asked has gone away; that is their right.
            let _ = connection.await;
        });
    }
}

fn answer(request: &Request<Incoming>, status: &Status, backlog: &Backlog) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return said(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/metrics" => {
            let text = metrics::text(status, backlog.last().as_deref());
            said(StatusCode::OK, metrics::CONTENT_TYPE, text)
        }
        "/health" => {
            let is_alive = status.is_alive(SILENT);
            said_as_json(is_alive, &json!({ "live": is_alive }))
        }
        "/ready" => {
            let is_ready = status.is_ready();
            said_as_json(is_ready, &json!({ "ready": is_ready, "sinks": status.all() }))
        }
        _ => said(
            StatusCode::NOT_FOUND,
            "text/plain",
            "there are /metrics, /health and /ready\n".to_owned(),
        ),
    }
}

fn said_as_json(is_well: bool, what: &serde_json::Value) -> Response<Full<Bytes>> {
    let status = if is_well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    said(status, "application/json", format!("{what}\n"))
}

fn said(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_of_this_machine() {
        let local = |text: &str| text.parse::<Addresses>().map(|addresses| addresses.0[0].to_string());
        assert_eq!(local("19187"), Ok("127.0.0.1:19187".to_owned()));
        assert_eq!(local(":19187"), Ok("127.0.0.1:19187".to_owned()));
        assert_eq!(local("[::1]:19187"), Ok("[::1]:19187".to_owned()));
        assert_eq!(local("0.0.0.0:19187"), Ok("0.0.0.0:19187".to_owned()));
        for bad in ["", "127.0.0.1", "127.0.0.1:99999", "99999", ":"] {
            assert!(local(bad).is_err(), "{bad}");
        }
    }
}
