//! Reports what this host offers to corio, what corio will use, why, and what to change for more.
//! It changes nothing on the system.
//!
//! Try it: `cargo run --example doctor`, or `cargo run --example doctor -- --json`.

mod advice;
mod host;
mod report;
mod text;

use std::process::ExitCode;

use clap::Parser;
use report::Report;

/// Reports what this host offers, which driver corio will use, and why
#[derive(Parser)]
struct Args {
    /// Print the report as JSON, for tools
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let report = Report::new();
    if args.json {
        match serde_json::to_string_pretty(&report) {
            Ok(json) => println!("{json}"),
            Err(error) => {
                eprintln!("doctor: {error}");
                return ExitCode::FAILURE;
            }
        }
    } else {
        print!("{report}");
    }
    if report.driver.error.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
