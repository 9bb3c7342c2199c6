//! [axum](https://docs.rs/axum) on corio's servers.
//!
//! Handlers that await operations of corio are wrapped in [`handler`](super::handler), which makes
//! them `Send` and lets hyper drop them when their client leaves.
//!
//! # Examples
//! ```no_run
//! use axum::{Router, routing::get};
//! use corio::compat::{axum::serve, handler};
//! use corio::{fs::File, server::Server};
//!
//! /// Reads a file without a thread.
//! async fn manifest() -> Result<Vec<u8>, String> {
//!     let reading = async {
//!         let file = File::open("Cargo.toml").await?;
//!         let len = file.metadata().await?.len() as usize;
//!         let (result, text) = file.read_exact_at(Vec::with_capacity(len), 0).await;
//!         result.map(|()| text)
//!     };
//!     handler(reading).await.map_err(|error: std::io::Error| error.to_string())
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let router = Router::new()
//!         .route("/", get(|| async { "Hello, World!" }))
//!         .route("/manifest", get(manifest));
//!     let server = serve(Server::builder().listen("127.0.0.1:8080"), router)?;
//!     println!("serving on {}", server.addresses()[0]);
//!     server.join();
//!     Ok(())
//! }
//! ```

use ::hyper::Request;
use ::hyper::body::Incoming;
use ::hyper::service::{Service, service_fn};
use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::service::TowerToHyperService;

use super::hyper;
use crate::server::{ServeError, Server, ServerBuilder};

/// Starts a server whose connections are served by `router`, over HTTP/1 and HTTP/2, on all of its
/// workers. A handler finds its client's address by
/// `axum::extract::ConnectInfo<std::net::SocketAddr>`.
///
/// When the server is [stopped](Server::stop), each connection ends after the requests that it has
/// begun.
///
/// # Errors
/// As for [`ServerBuilder::start`].
///
/// # Examples
/// See the [module](self).
pub fn serve(server: ServerBuilder, router: Router) -> Result<Server, ServeError> {
    hyper::serve(server, move |context| {
        let service = TowerToHyperService::new(router.clone());
        let peer = context.peer().as_inet();
        service_fn(move |mut request: Request<Incoming>| {
            if let Some(peer) = peer {
                request.extensions_mut().insert(ConnectInfo(peer));
            }
            service.call(request)
        })
    })
}
