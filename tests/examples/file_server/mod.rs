//! The example `file_server`, byte by byte, over real connections.

mod conditions;
mod fetching;
mod http;
mod limits;
mod paths;
mod peers;
mod program;
mod ranges;
mod refusals;
mod site;
