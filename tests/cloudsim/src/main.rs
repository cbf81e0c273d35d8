//! The simulator as a program: prints where it listens as one line of JSON, then runs until it is ended.

use std::net::SocketAddr;

use clap::{Parser, Subcommand};
use cloudsim::{Options, Sim, dns};

/// Simulated clouds on loopback for Roadstead's tests and demo.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// Where the APIs and the control API listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    http: SocketAddr,
    /// Where the authoritative DNS server listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    dns: SocketAddr,
    /// Where the public resolver listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    resolver: SocketAddr,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Ask a DNS server and print its answer, as `dig +short` does.
    Query {
        /// The server, IP:port.
        server: SocketAddr,
        /// The name.
        name: String,
        /// The type.
        #[arg(default_value = "A")]
        kind: String,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Some(Command::Query { server, name, kind }) = cli.command {
        for line in dns::server::query(server, &name, &kind).await? {
            println!("{line}");
        }
        return Ok(());
    }
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let sim = Sim::start(Options { http: cli.http, dns: cli.dns, resolver: cli.resolver }).await?;
    println!("{}", serde_json::json!({"http": sim.http(), "dns": sim.dns(), "resolver": sim.resolver()}));
    tokio::signal::ctrl_c().await?;
    Ok(())
}
