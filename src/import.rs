//! Imported images are captured and published by the agent's own code: the roles do not know each other, so they meet
//! here.

use std::sync::OnceLock;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use strongroom_agent::capture::Budget;
use strongroom_agent::cli::stopped_by_signals;
use strongroom_agent::databases::Databases;
use strongroom_agent::run::{Agent, Given, Target, back_up};
use strongroom_console::{Console, Failed};
use strongroom_import::cli::{Image, Keeper, Kept};
use strongroom_model::World;
use tokio_util::sync::CancellationToken;

/// Captures images and publishes their points, until a signal says to stop.
pub(crate) fn keeping()
-> impl for<'a> Fn(&'a Keeper, Image, &'a Console, &'a World) -> BoxFuture<'a, Result<Kept, Failed>> {
    // Only from the first image on: until then a signal ends the process at once, and there is nothing to leave in order.
    let stopped = OnceLock::new();
    move |keeper, image, console, world| {
        keep(stopped.get_or_init(stopped_by_signals).clone(), keeper, image, console, world)
    }
}

fn keep<'a>(
    stopped: CancellationToken,
    keeper: &'a Keeper,
    image: Image,
    console: &'a Console,
    world: &'a World,
) -> BoxFuture<'a, Result<Kept, Failed>> {
    async move {
        let options = keeper.settings.open_options();
        let agent = Agent {
            repository: keeper.opened.repository.clone(),
            counts: keeper.opened.counts.clone(),
            world: world.clone(),
            name: options.agent,
            state_dir: options.state_dir,
            budget: Budget::shared(keeper.config.memory_budget.bytes(), 1),
            stall_after: keeper.config.stall_after.get(),
            databases: Databases::default(),
        };
        let Image { volume, source, taken_at, path, labels } = image;
        let progress = console.progress(volume.as_str(), None);
        let target = Target::Given(Box::new(Given { volume, source, taken_at, path, labels }));
        let done = back_up(&agent, &target, &progress, &stopped).await;
        progress.finish();
        let report = done?;
        Ok(Kept { point: report.point, new_bytes: report.tally.new_bytes, sent_bytes: report.sent_bytes })
    }
    .boxed()
}
