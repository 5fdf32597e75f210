//! Many histories: the invariants hold in each; a rule taken away breaks one of them soon; a seed is a history.
//!
//! `STRONGROOM_SEEDS=from..to` tries other seeds. With one seed alone every request is printed, when the history
//! breaks: that is how a failing seed is looked at again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::history::{Told, live};
use crate::rules::Rule;

/// The seeds that CI tries; `make nightly` tries 10,000.
const USUAL: std::ops::Range<u64> = 0..300;

/// Seeds that once found something, or what a seed found then: kept, so that it is not made again.
///
/// * 4: a point forgotten by a clock that ran ahead kept its bytes from every sweep until that clock was reached.
const REMEMBERED: [u64; 1] = [4];

fn asked(usual: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let asked = std::env::var("STRONGROOM_SEEDS").ok();
    let range = asked.as_deref().and_then(|text| text.split_once(".."));
    range.and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?)).unwrap_or(usual)
}

fn how_to_see_it_again(seed: u64) -> String {
    let after = seed + 1;
    format!(
        "again: STRONGROOM_SEEDS={seed}..{after} cargo test -p strongroom-repository --lib everybody_at_once"
    )
}

#[test]
fn everybody_at_once_keeps_the_invariants() {
    let seeds = asked(USUAL);
    let (next, requests) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let failed: Mutex<Vec<(u64, Told)>> = Mutex::default();
    let began = Instant::now();
    let is_alone = seeds.end - seeds.start == 1;
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let told = live(seed, None, is_alone);
            requests.fetch_add(told.requests, Ordering::Relaxed);
            if told.violation.is_some() {
                failed.lock().unwrap_or_else(PoisonError::into_inner).push((seed, told));
                return;
            }
        }
    };
    // Each history has a runtime of its own on its thread, so histories side by side do not meet.
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (seconds, requests) = (began.elapsed().as_secs_f64(), requests.into_inner());
    let count = next.into_inner().min(seeds.end) - seeds.start;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = count as f64 / seconds;
    println!("{count} histories, {requests} requests in {seconds:.0} s: {rate:.1} histories a second");
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((seed, told)) = failed.first() {
        for line in &told.log {
            println!("{line}");
        }
        let what = told.violation.as_deref().unwrap_or_default();
        panic!("seed {seed}, after {} requests: {what}\n{}", told.requests, how_to_see_it_again(*seed));
    }
}

#[test]
fn seeds_that_once_found_something_find_nothing_now() {
    for seed in REMEMBERED {
        let told = live(seed, None, false);
        assert_eq!(told.violation, None, "seed {seed}: {}", how_to_see_it_again(seed));
    }
}

#[test]
fn one_seed_is_one_history() {
    for seed in 0..12 {
        let (first, again) = (live(seed, None, true), live(seed, None, true));
        let differs = first.log.iter().zip(&again.log).position(|(one, two)| one != two);
        if let Some(at) = differs {
            panic!("seed {seed} parts after {at} requests: {} | {}", first.log[at], again.log[at]);
        }
        assert_eq!(first, again, "seed {seed}");
    }
}

#[test]
fn histories_have_everything_in_them() {
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..40 {
        for (kind, count) in live(seed, None, false).records {
            *seen.entry(kind).or_insert(0) += count;
        }
    }
    let kinds = [
        "opened",
        "closed",
        "fenced",
        "published",
        "forgotten",
        "held",
        "released",
        "sweep planned",
        "pack rewritten",
        "sweep done",
    ];
    for kind in kinds {
        assert!(seen.get(kind).is_some_and(|count| *count >= 10), "{kind} is rare: {seen:?}");
    }
}

/// Lives through histories without the rule until one breaks.
fn breaks_without(rule: Rule, within: u64) {
    for seed in 0..within {
        let told = live(seed, Some(rule), false);
        if let Some(what) = told.violation {
            assert!(what.starts_with('I'), "without {rule:?} seed {seed} breaks by no invariant: {what}");
            println!("without {rule:?}: seed {seed}, after {} requests: {what}", told.requests);
            return;
        }
    }
    panic!(
        "{within} histories without {rule:?} kept the invariants: the rule, or the simulation, is not needed"
    );
}

macro_rules! each_rule_is_needed {
    ($($name:ident: $rule:ident within $seeds:literal;)*) => {
        $(#[test]
        fn $name() {
            breaks_without(Rule::$rule, $seeds);
        })*
    };
}

// The rules in the order of section 6 of the protocol.
each_rule_is_needed! {
    without_a_plan_what_is_not_needed_yet_is_deleted: PlanFirst within 500;
    a_plan_that_does_not_wait_breaks_a_point: WaitForWriters within 500;
    waiting_for_time_instead_of_writers_breaks_a_point: NoClock within 1500;
    the_next_number_without_reading_lets_an_ended_session_publish: ReadWhatWon within 1500;
    silence_taken_for_failure_publishes_twice: LookForOwn within 500;
    silence_taken_for_failure_and_cleaned_up_breaks_a_point: WriterNeverDeletes within 500;
    a_publish_that_does_not_revive_breaks_a_point: Revive within 500;
    any_session_that_revives_breaks_a_point: LateSessionsAvoid within 1500;
    a_plan_that_waits_for_the_sessions_of_before_breaks_a_point: WaitSetIsExact within 1500;
    a_plan_sent_again_unchanged_breaks_a_point: PlanAgain within 500;
    entries_dropped_without_waiting_break_a_session: HolesArePlanned within 1500;
    packs_named_by_content_break_a_point: FreshPackNames within 1500;
    rewritten_objects_named_by_generation_break_a_point: FreshObjectNames within 1500;
    a_rewrite_after_its_plan_breaks_a_point: RewriteUnderPlan within 1500;
    the_old_object_deleted_first_breaks_a_point: RecordBeforeDelete within 500;
    deleted_records_lose_a_publish: KeepJournal within 1500;
    all_uploads_of_a_fenced_writer_taken_along_break_a_point: AdoptUnplannedOnly within 1500;
    uploads_before_opened_break_a_point: OpenBeforeUpload within 1500;
    a_reader_without_a_second_look_fails: ReaderRereads within 500;
}
