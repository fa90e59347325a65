//! The binary: parses arguments, loads the configuration, runs a command and exits with its code.

use clap::Parser;
use std::process::ExitCode;
use xco_worker::{
    cli::{Cli, Context, Exit, conclude},
    config::{self, Config},
    telemetry::{self, Metrics, say_at_end},
};

fn main() -> ExitCode {
    // First, because rustls panics at the first TLS connection if no provider is chosen. An error means that one is.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    run(cli).into()
}

fn run(cli: Cli) -> Exit {
    if cli.command.needs_no_config() {
        let context = Context { config: Config::default(), json: cli.global.json, metrics: Metrics::default() };
        return end(execute(cli, context));
    }
    // Only this program's variables: those of others may be of any size, or not text.
    let env = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
        .filter(|(name, _)| name.starts_with("XCO_WORKER__"))
        .map(|(name, value)| (name, value.to_string_lossy().into_owned()));
    let config = match config::load(&cli.sources(env)) {
        Ok(config) => config,
        Err(faults) => {
            for fault in &faults.0 {
                say_at_end(&fault.to_string());
            }
            say_at_end(&format!("{faults}; every key is explained in config/xco-worker.toml"));
            return Exit::Usage;
        }
    };
    // Lives until the command has ended, and then flushes.
    let guard = match telemetry::init(&config.telemetry) {
        Ok(guard) => guard,
        Err(error) => {
            end(Err(error.into()));
            return Exit::Usage;
        }
    };
    let context = Context { config, json: cli.global.json, metrics: guard.metrics().clone() };
    end(execute(cli, context))
}

fn execute(cli: Cli, context: Context) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(cli.command.run(context));
    // Does not wait for what is still running. Resolving a name that no server answers blocks its thread for up to half
    // a minute and cannot be cancelled.
    runtime.shutdown_background();
    result
}

fn end(result: anyhow::Result<Exit>) -> Exit {
    let (exit, said) = conclude(result);
    if let Some(said) = said {
        say_at_end(&said);
    }
    exit
}
