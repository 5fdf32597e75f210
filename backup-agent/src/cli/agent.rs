//! `strongroom agent`: the daemon, until SIGTERM.

use std::sync::Arc;
use std::time::Duration;

use strongroom_console::{Console, Exit, Failed};
use strongroom_model::{Failure as _, Remedy, World, chain};
use strongroom_settings::{OpenedRepository, RepositoryArgs, RepositorySettings, open_repository};
use tokio_util::sync::CancellationToken;

use super::backup::{RunError, agent_of};
use super::signals::stopped_by_signals;
use crate::daemon::{Daemon, Health};
use crate::policy::Policies;

/// `strongroom agent`
#[derive(Debug, clap::Args)]
pub struct AgentArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
}

/// How long it waits before a store that does not answer at the start is tried again.
const PAUSE: Duration = Duration::from_secs(30);

pub(super) async fn run(args: AgentArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let (settings, config) = args.repository.resolve_with_config()?;
    let (Some(config), Some(path)) = (config, &args.repository.config) else {
        return Err(RunError::NoConfig.into());
    };
    let policies = Policies::new(&config, path, console.time_zone(), world.clock.now())?;
    if config.policies.is_empty() {
        console.talk("The configuration has no [[policy]]: every volume is backed up once a day.");
    }
    if config.driver.is_none() {
        console.warn(
            "the configuration names no [driver]: nothing is backed up, only retention and sweep are done",
        );
    }
    let cancel = stopped_by_signals();
    let health = match &config.agent.socket {
        Some(socket) => Health::serve(socket, cancel.clone()).await?,
        None => Health::default(),
    };
    let Some(opened) = open(&settings, world, &cancel, &health).await? else { return Ok(Exit::Done) };
    let agent = agent_of(&settings, opened, &config.agent, config.agent.jobs.get(), world);
    let daemon = Daemon {
        agent: Arc::new(agent),
        policies: Arc::new(policies),
        endpoint: config.driver.map(|driver| driver.endpoint),
        config: config.agent,
        health,
    };
    daemon.run(&cancel).await;
    Ok(Exit::Done)
}

/// A machine may start before its network does: what passes by itself is waited for, all else ends the agent.
async fn open(
    settings: &RepositorySettings,
    world: &World,
    cancel: &CancellationToken,
    health: &Health,
) -> Result<Option<OpenedRepository>, Failed> {
    loop {
        match open_repository(settings, world).await {
            Ok(opened) => return Ok(Some(opened)),
            Err(error) if matches!(error.remedy(), Remedy::Retry | Remedy::Wait) => {
                health.tell(false).await;
                tracing::error!(
                    code = error.code(),
                    error = chain(&error),
                    advice = error.advice(),
                    "the repository does not answer"
                );
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = cancel.cancelled() => return Ok(None),
        }
    }
}
