//! The simulator as a program: prints where it listens as one line of JSON, then runs until it is ended.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use cloudsim::cloudflare::WorkersOptions;
use cloudsim::vms::VmsOptions;
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
    /// Where requests to uploaded Workers come in, which are then run; without it they are only kept.
    #[arg(long)]
    workers: Option<SocketAddr>,
    /// The program workerd that runs them.
    #[arg(long, env = "ROADSTEAD_WORKERD", default_value = "workerd")]
    workerd: PathBuf,
    /// A file of authorities, as PEM, whose certificates of `https` origins are good to Workers.
    #[arg(long)]
    workers_authorities: Option<PathBuf>,
    /// The directory of a running rig (tests/vm/start.sh) whose containers droplets become; without it, records.
    #[arg(long)]
    vms: Option<PathBuf>,
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
    let authorities = cli.workers_authorities.map(std::fs::read).transpose()?;
    let workers = cli.workers.map(|listen| WorkersOptions { listen, workerd: cli.workerd, authorities });
    let vms = cli.vms.map(|rig| VmsOptions::of_rig(&rig)).transpose()?;
    let sim = Sim::start(Options { http: cli.http, dns: cli.dns, resolver: cli.resolver, workers, vms }).await?;
    let mut addresses = serde_json::json!({"http": sim.http(), "dns": sim.dns(), "resolver": sim.resolver()});
    if let Some(workers) = sim.workers() {
        addresses["workers"] = serde_json::json!(workers);
    }
    println!("{addresses}");
    tokio::signal::ctrl_c().await?;
    Ok(())
}
