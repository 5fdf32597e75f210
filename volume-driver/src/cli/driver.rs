//! `strongroom driver`: opens the pool, serves until it is told to stop, and leaves what is mounted mounted.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use strongroom_console::{Console, Exit, Failed, Size};
use strongroom_model::{Failure, Remedy, World};
use strongroom_monitoring::{Endpoint, MonitoringArgs};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::doctor::DoctorArgs;
use super::limits::LimitArgs;
use crate::docker::{self, Docker};
use crate::metrics::DriverMetrics;
use crate::server::Socket;
use crate::{DriverSettings, Limits, Points, Volumes, WatchdogCommand};

/// Kubernetes allows 63 characters for the value of a label, which a node's name becomes.
const LONGEST_NODE_ID: usize = 63;

/// `driver` by itself runs the driver; behind it stands an errand for one.
#[derive(Debug)]
pub enum DriverCommand {
    /// Run it.
    Run(Box<DriverArgs>),
    /// Look for what is wrong with it.
    Doctor(DoctorArgs),
}

/// By hand, so that `driver doctor` asks for nothing that only a driver needs, whatever the environment holds.
impl FromArgMatches for DriverCommand {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.subcommand() {
            Some((_, errand)) => DoctorArgs::from_arg_matches(errand).map(Self::Doctor),
            None => DriverArgs::from_arg_matches(matches).map(|args| Self::Run(Box::new(args))),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for DriverCommand {
    fn augment_args(command: Command) -> Command {
        let doctor = DoctorArgs::augment_args(Command::new("doctor"))
            .about("Look for what is wrong with volumes, mounts, pool and machine; --repair mends what can be mended");
        DriverArgs::augment_args(command)
            .args_conflicts_with_subcommands(true)
            .subcommand_negates_reqs(true)
            .subcommand(doctor)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// How the driver is run.
#[derive(Debug, Args)]
pub struct DriverArgs {
    /// Where volumes lie: a directory or a block device; without reflinks there, a pool file with XFS is made in it
    #[arg(long, value_name = "DIR|DEVICE", env = "STRONGROOM_POOL")]
    pub pool: PathBuf,
    /// How large a pool file shall be, where one has to be made [default: four fifths of what is free]
    #[arg(long, value_name = "SIZE", env = "STRONGROOM_POOL_SIZE")]
    pub pool_size: Option<Size>,
    /// The Unix socket to serve on: unix:///path or a path
    #[arg(long, value_name = "ENDPOINT", env = "CSI_ENDPOINT")]
    pub endpoint: String,
    /// The name of this node, unique among all that share an orchestrator
    #[arg(long, value_name = "ID", env = "STRONGROOM_NODE_ID", value_parser = node_id)]
    pub node_id: String,
    /// The socket of `strongroom agent` on this node, which knows recovery points: unix:///path or a path
    #[arg(long, value_name = "ENDPOINT", env = "STRONGROOM_AGENT_ENDPOINT")]
    pub agent_endpoint: Option<String>,
    /// Where the driver keeps its registry
    #[arg(long, value_name = "DIR", env = "STRONGROOM_STATE_DIR")]
    pub state_dir: PathBuf,
    /// Below which directories an orchestrator may have volumes mounted; give it once for each (in the variable: with
    /// `:` between them). What a person mounts by hand is not bound to them
    #[arg(
        long = "mount-root",
        value_name = "DIR",
        env = "STRONGROOM_MOUNT_ROOTS",
        value_delimiter = ':',
        default_values = MOUNT_ROOTS,
    )]
    pub mount_roots: Vec<PathBuf>,
    /// Serve Docker too, at this socket: /run/docker/plugins/strongroom.sock, where Docker looks for plugins
    #[arg(long, value_name = "ENDPOINT", env = "STRONGROOM_DOCKER_SOCKET")]
    pub docker_socket: Option<String>,
    /// Where volumes are mounted for containers of Docker [default: the folder docker in the state folder]
    #[arg(long, value_name = "DIR", env = "STRONGROOM_DOCKER_ROOT", requires = "docker_socket")]
    pub docker_root: Option<PathBuf>,
    /// How many volumes an orchestrator may attach to this node; 0: as many as there are
    #[arg(long, value_name = "COUNT", env = "STRONGROOM_MAX_VOLUMES", default_value_t = 0)]
    pub max_volumes: u64,
    /// Where the control groups of this machine are mounted, by which the I/O of volumes is limited
    #[arg(long, value_name = "DIR", env = "STRONGROOM_CGROUP_ROOT", default_value = "/sys/fs/cgroup")]
    pub cgroup_root: PathBuf,
    /// Let NodeExpandVolume grow volumes as a whole, and offer no ControllerExpandVolume: for Kubernetes, whose one resizer does not
    /// know which node has a volume
    #[arg(long, env = "STRONGROOM_GROW_ON_NODE")]
    pub grow_on_node: bool,
    #[command(flatten)]
    pub monitoring: MonitoringArgs,
    /// How far the pool may be filled
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// Where the orchestrators that are known keep their mounts: Kubernetes, Swarm, Nomad (both of its usual places), and
/// our own folder.
const MOUNT_ROOTS: [&str; 5] =
    ["/var/lib/kubelet", "/data", "/var/lib/nomad", "/opt/nomad", "/var/lib/strongroom"];

/// A node's name becomes the value of a topology key, which has the form of a Kubernetes label.
fn node_id(text: &str) -> Result<String, String> {
    let inner = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let edge = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    let fits = text.len() <= LONGEST_NODE_ID
        && text.chars().all(inner)
        && edge(text.chars().next())
        && edge(text.chars().next_back());
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "1 to {LONGEST_NODE_ID} letters, digits, `-`, `_` or `.`, with a letter or digit at both ends"
        ))
    }
}

/// The operating system would not tell when to stop.
#[derive(Debug, thiserror::Error)]
#[error("listening for the signal to stop")]
struct SignalError(#[source] std::io::Error);

impl Failure for SignalError {
    fn code(&self) -> &'static str {
        "driver.system"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixSurroundings
    }

    fn advice(&self) -> String {
        "the message says what the operating system refused".into()
    }
}

/// What the driver says when it has ended.
#[derive(Debug, serde::Serialize)]
struct Ended {
    endpoint: String,
    node: String,
}

pub(super) async fn run(args: DriverArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let mut terminate = signal(SignalKind::terminate()).map_err(SignalError)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(SignalError)?;
    // An empty variable of the environment is the usual way to say "not set".
    let points = match args.agent_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) {
        Some(endpoint) => Points::of_agent(endpoint)?,
        None => Points::default(),
    };
    // The socket first: a second driver must not touch the pool of the first. Callers wait in its queue meanwhile.
    let socket = Socket::bind(&args.endpoint).await?.growing_on_node(args.grow_on_node);
    let docker = match args.docker_socket.as_deref().filter(|endpoint| !endpoint.is_empty()) {
        Some(endpoint) => Some(Socket::bind(endpoint).await?),
        None => None,
    };
    let docker_root = args.docker_root.unwrap_or_else(|| args.state_dir.join("docker"));
    let opened = Volumes::open(
        DriverSettings {
            pool: args.pool,
            pool_bytes: args.pool_size.map(|size| size.0),
            state_dir: args.state_dir,
            node: args.node_id.clone(),
            mount_roots: args.mount_roots,
            limits: Limits { max_volumes: args.max_volumes, ..args.limits.limits() },
            watchdog: WatchdogCommand::default(),
            cgroup_root: args.cgroup_root,
            boot_id: None,
        },
        world.clone(),
    )
    .await?;
    for finding in &opened.report {
        console.talk(finding);
    }
    let endpoint = socket.path().display().to_string();
    let room = opened.volumes.capacity().await?;
    console.talk(format_args!(
        "node {} serves at {endpoint}; pool {} with {}, {} taken",
        args.node_id,
        room.pool.display(),
        Size(room.pool_bytes),
        Size(room.used_bytes)
    ));
    if let Some(problem) = room.condition {
        console.warn(problem);
    }
    let metrics = DriverMetrics::new(opened.volumes.clone(), socket.calls(), opened.report.len());
    let _metrics = match args.monitoring.metrics_listen {
        None => None,
        Some(address) => {
            let served = Endpoint::serve(address, metrics.into()).await?;
            console.talk(format_args!("metrics at http://{}/metrics", served.address()));
            Some(served)
        }
    };
    let manager = args.monitoring.service_manager();
    let volumes = opened.volumes.clone();
    // Any answer is a sign of life: a pool that cannot be read is not mended by starting again.
    let _life = manager.watch(move || {
        let volumes = volumes.clone();
        async move { drop(volumes.capacity().await) }
    });
    manager.ready(&format!("serving at {endpoint}"));
    let (stopping, stopped) = watch::channel(false);
    let told = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        manager.stopping();
        stopping.send_replace(true);
        std::future::pending::<()>().await;
    };
    let serving_docker = async {
        match docker {
            Some(socket) => {
                console.talk(format_args!("Docker is served at {}", socket.path().display()));
                let docker = Docker::new(opened.volumes.clone(), points.clone(), docker_root);
                docker::serve(socket, docker, until_told(stopped.clone())).await
            }
            None => Ok(()),
        }
    };
    let serving =
        socket.serve(opened.volumes.clone(), points.clone(), opened.report, until_told(stopped.clone()));
    tokio::select! {
        served = async { tokio::try_join!(serving, serving_docker) } => served.map(drop)?,
        () = told => {}
    }
    console.result(&Ended { endpoint: endpoint.clone(), node: args.node_id.clone() }, |text| {
        text.line(format_args!(
            "node {} no longer serves at {endpoint}; what is mounted stays mounted",
            args.node_id
        ));
    });
    Ok(Exit::Done)
}

/// Done when somebody told the driver to stop.
async fn until_told(mut stopped: watch::Receiver<bool>) {
    // Without a sender nobody can tell any more.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        driver: DriverArgs,
    }

    fn roots(more: &[&str]) -> Vec<PathBuf> {
        let line = ["driver", "--pool=/p", "--endpoint=/e", "--node-id=n", "--state-dir=/s"];
        Line::parse_from(line.iter().chain(more)).driver.mount_roots
    }

    #[test]
    fn where_mounts_may_lie_is_known_and_can_be_said() {
        assert!(roots(&[]).contains(&PathBuf::from("/var/lib/kubelet")));
        assert_eq!(roots(&["--mount-root", "/a", "--mount-root", "/b c"]), ["/a", "/b c"].map(PathBuf::from));
        assert_eq!(roots(&["--mount-root=/a:/b"]), ["/a", "/b"].map(PathBuf::from));
    }

    #[test]
    fn a_node_is_named_so_that_a_label_can_hold_it() {
        for fine in ["a", "node-1.example.com", "N_1"] {
            assert!(node_id(fine).is_ok(), "{fine}");
        }
        for wrong in ["", "-a", "a-", "a/b", "a b", "größe", &"x".repeat(64)] {
            assert!(node_id(wrong).is_err(), "{wrong}");
        }
    }
}
