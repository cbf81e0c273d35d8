//! Parses the command line and calls [`roadstead::app`]; nothing else.

use clap::Parser;
use roadstead::cli::{Cli, Command};

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(settings) => roadstead::app::run(*settings),
        Command::Router(settings) => roadstead::app::route(settings.settings()),
        Command::Crd { dir } => roadstead::app::write_definitions(dir.as_deref()),
        Command::Version => {
            println!("roadstead {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}
