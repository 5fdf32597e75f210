//! One program, three roles: this file reads the command line and hands each command to the role it belongs to.
//!
//! Here, and only here, the process is asked about its surroundings: terminal, time zone, log settings, clock and
//! randomness. Everything below is handed what it needs.

mod allocator;
mod command_line;
mod databases;
mod import;
mod logging;
mod papers;
mod surroundings;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use clap::FromArgMatches as _;
use strongroom_console::{Console, Exit, Failed, Output};
use strongroom_model::World;

use crate::command_line::{Command, CommandLine};

fn main() -> ExitCode {
    allocator::share_heaps();
    let matches = match command_line::definition().try_get_matches() {
        Ok(matches) => matches,
        Err(answer) => return answer_of_clap(&answer),
    };
    let words = command_line::words(&matches);
    let line = match CommandLine::from_arg_matches(&matches) {
        Ok(line) => line,
        Err(answer) => return answer_of_clap(&answer),
    };
    let command = match line.command.settled() {
        Ok(command) => command,
        Err(answer) => return answer_of_clap(&answer),
    };
    let console = Console::new(line.output.output, surroundings::terminal()).named(&words);
    logging::begin(&console, line.log_format, matches!(words.as_str(), "driver" | "agent"));
    logging::report_panics(&console);
    let exit = panic::catch_unwind(AssertUnwindSafe(|| run(command, &console)))
        .unwrap_or_else(|_| console.fail(&logging::Panicked.into()));
    console.close(exit).into()
}

fn run(command: Command, console: &Console) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => return console.fail(&surroundings::NoRuntime(cause).into()),
    };
    let world = strongroom_settings::system_world();
    let exit = match runtime.block_on(dispatch(command, console, &world)) {
        Ok(exit) => exit,
        Err(failed) => console.fail(&failed),
    };
    // A read of a file or device that hangs must not keep a finished command alive.
    runtime.shutdown_background();
    exit
}

async fn dispatch(command: Command, console: &Console, world: &World) -> Result<Exit, Failed> {
    match command {
        Command::Driver(command) => strongroom_driver::cli::run(command, console, world).await,
        Command::Agent(command) => {
            strongroom_agent::cli::run(command, console, world, &|beside, routes| {
                routes.add_service(strongroom_restore::serve::service(beside_the_agent(beside)))
            })
            .await
        }
        Command::Import(command) => {
            strongroom_import::cli::run(command, console, world, &import::keeping()).await
        }
        Command::Databases(command) => databases::run(command, console, world).await,
        Command::Restore(command) => strongroom_restore::cli::run(command, console, world).await,
        Command::Files(command) => strongroom_files::cli::run(command, console, world).await,
        Command::Papers(command) => papers::run(command, console),
    }
}

/// Restores that the driver asks for are served on the agent's socket, since the agent has the key.
fn beside_the_agent(beside: strongroom_agent::cli::Beside) -> strongroom_restore::serve::Surroundings {
    strongroom_restore::serve::Surroundings {
        opened: beside.opened,
        settings: beside.settings,
        endpoint: beside.endpoint,
        state_dir: beside.state_dir.join("restore"),
        budget_bytes: beside.budget_bytes,
        zone: beside.zone,
        world: beside.world,
        cancel: beside.cancel,
    }
}

/// Help and version are answers; everything else clap says is a wrong command line, whose code must not be the 2 that
/// `status` uses.
fn answer_of_clap(answer: &clap::Error) -> ExitCode {
    if !answer.use_stderr() {
        // Whoever closed the pipe has read enough.
        let _ = answer.print();
        return Exit::Done.into();
    }
    if command_line::asks_for_json(std::env::args_os()) {
        let console = Console::new(Output::Json, surroundings::terminal());
        let exit = console.fail(&Failed::with_exit(command_line::UsageError::from(answer), Exit::Usage));
        return console.close(exit).into();
    }
    let _ = answer.print();
    Exit::Usage.into()
}
