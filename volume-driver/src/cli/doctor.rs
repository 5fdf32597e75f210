//! `strongroom driver doctor`: what is wrong, what would mend it, and with `--repair` the mending.
//!
//! Where a driver serves, it is asked. Where none does, and pool and state folder are given, they are opened as the driver
//! would open them; a driver that runs all the same holds a lock, and the doctor refuses.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use strongroom_console::{Console, Exit, Failed, Text};
use strongroom_model::World;
use strongroom_proto::control::{self, ExamineRequest, RepairRequest};
use strongroom_proto::{CallError, ConnectError};

use super::reach::EndpointArgs;
use crate::{DriverSettings, Limits, Repair, Volumes, WatchdogCommand};

/// What the doctor looks at.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Carry out what would be done; without it nothing is changed
    #[arg(long)]
    pub repair: bool,
    /// Count volumes as forgotten by their orchestrator that are staged and published nowhere: --repair unstages them
    #[arg(long)]
    pub unstage_idle: bool,
    #[command(flatten)]
    pub at: EndpointArgs,
    /// The pool of a driver that does not run
    #[arg(long, value_name = "DIR|DEVICE", env = "STRONGROOM_POOL", requires = "state_dir")]
    pub pool: Option<PathBuf>,
    /// The state folder of a driver that does not run
    #[arg(long, value_name = "DIR", env = "STRONGROOM_STATE_DIR", requires = "pool")]
    pub state_dir: Option<PathBuf>,
}

/// One finding, as it is shown.
#[derive(Debug, Serialize)]
struct View {
    code: String,
    /// `problem`, `warning` or `note`.
    severity: String,
    subject: String,
    message: String,
    advice: String,
    /// The step that mends it; `null`: there is none.
    repair: Option<Value>,
    /// With `--repair`: `done`, `gone`, or `failed: ` and why.
    outcome: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    /// Whether a driver was asked; otherwise its files were opened.
    running: bool,
    /// Whether steps were carried out.
    repaired: bool,
    findings: Vec<View>,
    /// Findings that are worse than a note and not mended.
    left: usize,
}

/// Whom to ask.
enum Subject {
    Running(Box<strongroom_proto::Clients>),
    Stopped(Volumes),
}

pub(super) async fn run(args: DoctorArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let idle = args.unstage_idle;
    let mut subject = reach(&args, world).await?;
    let found = match &mut subject {
        Subject::Running(clients) => {
            let request = ExamineRequest { unstage_idle: idle };
            clients.driver.examine(request).await.map_err(CallError::from)?.into_inner().findings
        }
        Subject::Stopped(volumes) => {
            volumes.examine(idle).await?.into_iter().map(crate::control::finding_out).collect()
        }
    };
    let steps: Vec<String> =
        found.iter().map(|found| found.repair.clone()).filter(|step| !step.is_empty()).collect();
    let outcomes = match &mut subject {
        _ if !args.repair => Vec::new(),
        Subject::Running(clients) => {
            let request = RepairRequest { steps, unstage_idle: idle };
            clients.driver.repair(request).await.map_err(CallError::from)?.into_inner().outcomes
        }
        Subject::Stopped(volumes) => {
            let steps = steps.iter().filter_map(|step| Repair::parse(step)).collect();
            volumes.repair(steps, idle).await?.iter().map(ToString::to_string).collect()
        }
    };
    let report = report(found, outcomes, matches!(subject, Subject::Running(_)), args.repair);
    console.result(&report, |text| say(&report, text));
    Ok(if report.left == 0 { Exit::Done } else { Exit::FAILED })
}

async fn reach(args: &DoctorArgs, world: &World) -> Result<Subject, Failed> {
    let error = match strongroom_proto::connect(&args.at.endpoint).await {
        Ok(clients) => return Ok(Subject::Running(Box::new(clients))),
        Err(error) => error,
    };
    match (&error, &args.pool, &args.state_dir) {
        (ConnectError::Missing { .. } | ConnectError::Refused { .. }, Some(pool), Some(state_dir)) => {
            let settings = DriverSettings {
                pool: pool.clone(),
                pool_bytes: None,
                state_dir: state_dir.clone(),
                node: "doctor".to_owned(),
                mount_roots: Vec::new(),
                limits: Limits::default(),
                watchdog: WatchdogCommand::default(),
                cgroup_root: PathBuf::from("/sys/fs/cgroup"),
                boot_id: None,
            };
            Ok(Subject::Stopped(Volumes::look(settings, world.clone()).await?))
        }
        _ => Err(error.into()),
    }
}

fn report(found: Vec<control::Finding>, outcomes: Vec<String>, running: bool, repaired: bool) -> Report {
    let mut outcomes = outcomes.into_iter();
    let findings: Vec<View> = found
        .into_iter()
        .map(|found| View {
            outcome: if found.repair.is_empty() { None } else { outcomes.next() },
            repair: serde_json::from_str(&found.repair).ok(),
            code: found.code,
            severity: found.severity,
            subject: found.subject,
            message: found.message,
            advice: found.advice,
        })
        .collect();
    let mended = |view: &View| view.outcome.as_deref().is_some_and(|outcome| !outcome.starts_with("failed"));
    let left = findings.iter().filter(|view| view.severity != "note" && !mended(view)).count();
    Report { running, repaired, findings, left }
}

fn say(report: &Report, text: &mut Text) {
    for view in &report.findings {
        text.line(format_args!("{}: {}: {} [{}]", view.severity, view.subject, view.message, view.code));
        let step = view.repair.as_ref().and_then(|step| serde_json::from_value::<Repair>(step.clone()).ok());
        match (&view.outcome, step) {
            (Some(outcome), Some(step)) => text.line(format_args!("    {step}: {outcome}")),
            (None, Some(step)) => text.line(format_args!("    --repair would {step}")),
            (_, None) => text.line(format_args!("    {}", view.advice)),
        };
    }
    let asked = if report.running { "the driver" } else { "its files, since no driver runs" };
    text.line(match report.left {
        0 => format!("looked at {asked}: healthy"),
        left => format!("looked at {asked}: {left} to deal with"),
    });
}
