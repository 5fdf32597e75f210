//! `files ls` and `files find`: lines as they are found, or one object with rows.

use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, Output, Size, TimeSpan};
use strongroom_model::{Failure, Remedy, World, chain};
use strongroom_settings::Moment;

use super::signals::{blocking, stop_flag};
use super::{FindArgs, ImageArgs, KindLetter, LsArgs};
use crate::error::FilesError;
use crate::listing::{Filter, Row, letters};
use crate::names::{Pattern, shown};
use crate::source::{ChosenPoint, Fetched, Location, Source, chosen, tree};
use crate::tree::{Kind, Tree};
use crate::walk::{self, Found, Step};

/// What both commands print in JSON.
#[derive(Debug, Serialize)]
struct Answer {
    #[serde(flatten)]
    point: ChosenPoint,
    entries: Vec<Row>,
    /// There are more than the limit.
    truncated: bool,
    unreadable: u64,
    #[serde(flatten)]
    fetched: Fetched,
}

/// What to look at, understood.
struct Look {
    location: Location,
    image: ImageArgs,
    filter: Filter,
    /// The start itself is one of the rows, as `find` has it.
    with_start: bool,
    recursive: bool,
    long: bool,
    limit: usize,
}

pub(super) async fn ls(args: LsArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let look = Look {
        location: Location::parse(&args.location)?,
        image: args.image,
        filter: Filter::default(),
        with_start: false,
        recursive: args.recursive,
        long: args.long,
        limit: args.limit,
    };
    let source = Source::open(&look.image.repository, world).await?;
    let point = source.point(&look.location.point, console).await?;
    look.run(&source, point, console).await
}

pub(super) async fn find(args: FindArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let location = Location::parse(&args.location)?;
    let source = Source::open(&args.image.repository, world).await?;
    let point = source.point(&location.point, console).await?;
    let moment = |text: &Option<String>| -> Result<Option<Timestamp>, Failed> {
        text.as_deref().map(|text| time(text, point.info.taken_at, world, console)).transpose()
    };
    let pattern = |text: &Option<std::ffi::OsString>| {
        let too_long = |text: &[u8]| FilesError::Pattern { text: shown(&text[..80]) };
        let text = text.as_deref().map(OsStrExt::as_bytes);
        text.map(|text| Pattern::new(text).ok_or_else(|| too_long(text))).transpose()
    };
    let mut filter = Filter {
        name: pattern(&args.name)?,
        path: pattern(&args.path)?,
        kinds: args.kind.iter().map(|letter| letter.kind()).collect(),
        newer: moment(&args.newer)?,
        older: moment(&args.older)?,
        uid: args.uid,
        ..Filter::default()
    };
    for text in &args.size {
        let (sign, size) = match text.as_bytes().first() {
            Some(sign @ (b'+' | b'-')) => (Some(*sign), &text[1..]),
            _ => (None, text.as_str()),
        };
        let size: Size = size.parse().map_err(|cause| WrongSize { text: text.clone(), cause })?;
        if sign != Some(b'-') {
            filter.at_least = Some(size.0 + u64::from(sign.is_some()));
        }
        if sign != Some(b'+') {
            filter.at_most = Some(size.0.saturating_sub(u64::from(sign.is_some())));
        }
    }
    let look = Look {
        location,
        image: args.image,
        filter,
        with_start: true,
        recursive: true,
        long: args.long,
        limit: args.limit,
    };
    look.run(&source, point, console).await
}

/// A moment, or a length of time before the point was taken.
fn time(text: &str, taken_at: Timestamp, world: &World, console: &Console) -> Result<Timestamp, Failed> {
    if let Ok(TimeSpan(span)) = text.parse::<TimeSpan>() {
        return Ok(taken_at.checked_sub(span).unwrap_or(Timestamp::MIN));
    }
    Ok(Moment::parse(text, world.clock.now(), console.time_zone())?.at)
}

/// Not a size.
#[derive(Debug, thiserror::Error)]
#[error("--size {text}")]
struct WrongSize {
    text: String,
    #[source]
    cause: strongroom_console::ParseSizeError,
}

impl Failure for WrongSize {
    fn code(&self) -> &'static str {
        "files.size"
    }
    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }
    fn advice(&self) -> String {
        "Write it like +10MiB, -4KiB or 512B.".into()
    }
}

impl KindLetter {
    const fn kind(self) -> Kind {
        match self {
            Self::F => Kind::File,
            Self::D => Kind::Directory,
            Self::L => Kind::Link,
            Self::P => Kind::Pipe,
            Self::S => Kind::Socket,
            Self::B => Kind::BlockDevice,
            Self::C => Kind::CharDevice,
        }
    }
}

/// What a look came to.
#[derive(Default)]
struct Seen {
    rows: Vec<Row>,
    truncated: bool,
    unreadable: u64,
    damaged: bool,
}

impl Look {
    async fn run(
        self,
        source: &Source,
        point: strongroom_repository::Point,
        console: &Console,
    ) -> Result<Exit, Failed> {
        let image = source.image(&point).await?;
        let head = chosen(&point, &image);
        let stop = stop_flag();
        let talk = console.clone();
        let seen = blocking(move || {
            let tree = tree(image, self.image.partition)?;
            self.look(&*tree, &talk, &stop)
        })
        .await?;
        let fetched = source.fetched();
        console.talk(fetched.text(head.image_bytes));
        let answer = Answer {
            point: head,
            entries: seen.rows,
            truncated: seen.truncated,
            unreadable: seen.unreadable,
            fetched,
        };
        if answer.truncated {
            console.warn("there are more; --limit allows more rows");
        }
        if seen.unreadable > 0 && console.output() == Output::Text {
            return Err(FilesError::Some { count: seen.unreadable, damaged: seen.damaged }.into());
        }
        console.result(&answer, |_| {});
        Ok(match (answer.unreadable, seen.damaged) {
            (0, _) => Exit::Done,
            (_, true) => Exit::Damaged,
            _ => Exit::FAILED,
        })
    }

    fn look(&self, tree: &dyn Tree, console: &Console, stop: &AtomicBool) -> Result<Seen, Failed> {
        let start = walk::find(tree, self.location.path.as_deref().unwrap_or(b"/"), false)?;
        let mut seen = Seen::default();
        if start.node.kind != Kind::Directory || self.with_start {
            self.row(tree, &start, console, &mut seen);
        }
        if start.node.kind == Kind::Directory {
            walk::below(tree, &start, self.recursive, &mut |step| {
                match step {
                    Step::Node(found) => self.row(tree, &found, console, &mut seen),
                    Step::Unreadable { path, cause } => seen.unreadable(&path, &cause, console),
                }
                !(seen.truncated || console.is_closed() || stop.load(Ordering::Relaxed))
            });
        }
        if stop.load(Ordering::Relaxed) {
            return Err(Failed::with_exit(FilesError::Interrupted, Exit::Interrupted));
        }
        Ok(seen)
    }

    fn row(&self, tree: &dyn Tree, found: &Found, console: &Console, seen: &mut Seen) {
        if !self.filter.takes(found) {
            return;
        }
        let row = match Row::of(tree, found) {
            Ok(row) => row,
            Err(cause) => return seen.unreadable(&found.path, &cause, console),
        };
        if console.output() == Output::Json {
            seen.truncated = seen.rows.len() >= self.limit;
            if !seen.truncated {
                seen.rows.push(row);
            }
            return;
        }
        let line = if self.long {
            row.long(&letters(&found.node), console.time_zone())
        } else if self.recursive {
            row.path
        } else {
            // The name alone, as `ls` has it.
            shown(found.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default())
        };
        console.part(&format!("{line}\n"));
    }
}

impl Seen {
    fn unreadable(&mut self, path: &[u8], cause: &FilesError, console: &Console) {
        self.unreadable += 1;
        self.damaged |= cause.remedy() == Remedy::FixData;
        if self.unreadable <= 100 {
            console.warn(format_args!("{}: {}", shown(path), chain(cause)));
        }
    }
}
