//! `strongroom snapshot group`: snapshots of several volumes at one moment.

use clap::Subcommand;
use serde::Serialize;
use strongroom_console::{Console, Failed};
use strongroom_model::{Failure, Remedy, World};
use strongroom_proto::control::{CreateGroupRequest, DeleteGroupRequest, ListGroupsRequest};
use strongroom_proto::{CallError, Clients};

use super::reach::{self, EndpointArgs, given, named};
use super::views::{GroupView, group_table};

/// What can be done with groups of snapshots.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Take snapshots of several volumes at one moment, in use or not: all of them or none
    Create {
        /// What to call the group; the same again changes nothing
        name: String,
        /// The volumes' names, or their ids
        #[arg(required = true, value_name = "VOLUME")]
        volumes: Vec<String>,
        /// A label of the group and its snapshots; may be given again
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = reach::label)]
        labels: Vec<(String, String)>,
        #[command(flatten)]
        at: EndpointArgs,
    },
    /// List groups, oldest first
    List {
        #[command(flatten)]
        at: EndpointArgs,
    },
    /// Delete a group with its snapshots; volumes made from them stay
    Delete {
        /// Its id, or its name
        group: String,
        #[command(flatten)]
        at: EndpointArgs,
    },
}

/// There is no such group.
#[derive(Debug, thiserror::Error)]
#[error("there is no group {group:?}")]
struct NoGroup {
    group: String,
}

impl Failure for NoGroup {
    fn code(&self) -> &'static str {
        "driver.not-found"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }

    fn advice(&self) -> String {
        "look at `strongroom snapshot group list`".into()
    }
}

#[derive(Debug, Serialize)]
struct OneGroup {
    group: GroupView,
    /// False: it was there already.
    created: bool,
}

#[derive(Debug, Serialize)]
struct AllGroups {
    groups: Vec<GroupView>,
}

#[derive(Debug, Serialize)]
struct Deleted {
    id: String,
}

pub(super) async fn run(command: GroupCommand, console: &Console, _: &World) -> Result<(), Failed> {
    match command {
        GroupCommand::Create { name, volumes, labels, at } => {
            let request = CreateGroupRequest {
                name,
                volumes: volumes.iter().map(|volume| named(volume)).collect(),
                labels: labels.into_iter().collect(),
            };
            create(request, &mut at.connect().await?, console).await
        }
        GroupCommand::List { at } => {
            let groups = all(&mut at.connect().await?).await?;
            let table = group_table(&groups, console);
            console.result(&AllGroups { groups }, |text| {
                if table.is_empty() {
                    text.line("there are no groups");
                } else {
                    text.table(&table);
                }
            });
            Ok(())
        }
        GroupCommand::Delete { group, at } => delete(group, &mut at.connect().await?, console).await,
    }
}

async fn all(clients: &mut Clients) -> Result<Vec<GroupView>, Failed> {
    let answer = clients.driver.list_groups(ListGroupsRequest {}).await.map_err(CallError::from)?;
    Ok(answer.into_inner().groups.into_iter().map(GroupView::from).collect())
}

async fn create(request: CreateGroupRequest, clients: &mut Clients, console: &Console) -> Result<(), Failed> {
    let answer = clients.driver.create_group(request).await.map_err(CallError::from)?.into_inner();
    let group: GroupView = given(answer.group, "the group")?.into();
    let said = format!(
        "{} {} of {} volumes",
        group.id,
        if answer.existed { "was there already: the group" } else { "is the group" },
        group.snapshots.len()
    );
    console.result(&OneGroup { group, created: !answer.existed }, |text| {
        text.line(said);
    });
    Ok(())
}

async fn delete(group: String, clients: &mut Clients, console: &Console) -> Result<(), Failed> {
    let known = all(clients).await?;
    // An id first: a name may look like one.
    let found =
        known.iter().find(|one| one.id == group).or_else(|| known.iter().find(|one| one.name == group));
    let Some(id) = found.map(|found| found.id.clone()) else {
        return Err(NoGroup { group }.into());
    };
    clients
        .driver
        .delete_group(DeleteGroupRequest { group_id: id.clone() })
        .await
        .map_err(CallError::from)?;
    let said = format!("{id} is deleted with its snapshots");
    console.result(&Deleted { id }, |text| {
        text.line(said);
    });
    Ok(())
}
