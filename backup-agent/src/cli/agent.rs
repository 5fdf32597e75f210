//! `strongroom agent`: the daemon, until SIGTERM.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use strongroom_console::{Console, Exit, Failed};
use strongroom_model::{Failure as _, Remedy, World, chain};
use strongroom_monitoring::{Endpoint, MonitoringArgs};
use strongroom_settings::{OpenedRepository, RepositoryArgs, RepositorySettings, open_repository};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::backup::{RunError, agent_of};
use super::signals::stopped_by_signals;
use crate::control::{self, Places};
use crate::copies::Copy;
use crate::daemon::{Daemon, Health, Picture};
use crate::databases::Databases;
use crate::databases::proving::Prover;
use crate::policy::Policies;

/// `strongroom agent`
#[derive(Debug, clap::Args)]
pub struct AgentArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    #[command(flatten)]
    monitoring: MonitoringArgs,
}

/// How long it waits before a store that does not answer at the start is tried again.
const PAUSE: Duration = Duration::from_secs(30);

/// What another role needs to serve something of its own on the agent's socket.
#[derive(Debug, Clone)]
pub struct Beside {
    /// The repository, once it is open.
    pub opened: watch::Receiver<Option<OpenedRepository>>,
    /// What it is opened with.
    pub settings: RepositorySettings,
    /// The driver's socket.
    pub endpoint: Option<String>,
    /// Where the agent keeps its state.
    pub state_dir: PathBuf,
    /// What the neighbour may hold in memory: as much again as all backups.
    pub budget_bytes: u64,
    /// The time zone of the machine.
    pub zone: TimeZone,
    /// Clock and randomness.
    pub world: World,
    /// When the agent stops.
    pub cancel: CancellationToken,
}

/// Adds what another role serves beside the agent: the roles do not know each other, whoever starts them does.
pub type Neighbour = dyn Fn(Beside, Routes) -> Routes + Send + Sync;

pub(super) async fn run(
    args: AgentArgs,
    console: &Console,
    world: &World,
    neighbour: &Neighbour,
) -> Result<Exit, Failed> {
    let (settings, config) = args.repository.resolve_with_config()?;
    let (Some(config), Some(path)) = (config, &args.repository.config) else {
        return Err(RunError::NoConfig.into());
    };
    let settings = settings.limited(&config.agent, console.time_zone());
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
    let policies = Arc::new(policies);
    let endpoint = config.driver.as_ref().map(|driver| driver.endpoint.clone());
    let places = Places::new(config.agent.jobs.get());
    let (tell_agent, agent) = watch::channel(None);
    let (tell_opened, opened) = watch::channel(None);
    let control = control::Surroundings {
        agent,
        endpoint: endpoint.clone(),
        policies: Arc::clone(&policies),
        places: places.clone(),
        cancel: cancel.clone(),
    };
    let beside = Beside {
        opened,
        settings: settings.clone(),
        endpoint: endpoint.clone(),
        state_dir: config.agent.state_dir.clone(),
        budget_bytes: config.agent.memory_budget.bytes(),
        zone: console.time_zone().clone(),
        world: world.clone(),
        cancel: cancel.clone(),
    };
    let routes = |routes: Routes| neighbour(beside, routes.add_service(control::service(control)));
    let health = match &config.agent.socket {
        Some(socket) => Health::serve(socket, routes, cancel.clone()).await?,
        None => Health::default(),
    };
    let picture = Picture::new(Arc::clone(&world.clock), Arc::clone(&policies));
    let _metrics = match args.monitoring.metrics_listen {
        None => None,
        Some(address) => {
            let served = Endpoint::serve(address, Arc::new(picture.clone())).await?;
            console.talk(format_args!("metrics at http://{}/metrics", served.address()));
            Some(served)
        }
    };
    let manager = args.monitoring.service_manager();
    let _life = manager.watch(|| async {});
    // A store that does not answer yet must not hold up the start of the machine: it is waited for, and said.
    manager.ready("opening the repository");
    let Some(opened) = open(&settings, world, &cancel, &health).await? else { return Ok(Exit::Done) };
    tell_opened.send_replace(Some(opened.clone()));
    let store = Arc::clone(&opened.store);
    let databases = Databases::new(&config);
    picture.databases(databases.clone());
    let jobs = config.agent.jobs.get();
    let agent = Arc::new(agent_of(&settings, opened, &config.agent, databases.clone(), jobs, world));
    tell_agent.send_replace(Some(Arc::clone(&agent)));
    let copies = Copy::all(&settings, Some(&policies), world).await?;
    let archiving = {
        let (agent, cancel, state_dir) = (Arc::clone(&agent), cancel.clone(), config.agent.state_dir.clone());
        tokio::spawn(async move { databases.archive(&agent, state_dir, &cancel).await })
    };
    let daemon = Daemon {
        agent,
        policies,
        endpoint,
        config: config.agent,
        check: config.check,
        health,
        places,
        picture,
        copies,
        prover: Prover::new(&args.repository),
        store,
    };
    manager.status("watching the volumes");
    let told = async {
        cancel.cancelled().await;
        manager.stopping();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        // First, so that it is told before the end of what is told about.
        biased;
        () = told => {}
        () = daemon.run(&cancel) => {}
    }
    // It hears of the end as the daemon does, and says its last words to server and journal.
    let _ = archiving.await;
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
