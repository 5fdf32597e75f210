//! `strongroom repository key recovery-kit`: one sheet of paper from which everything comes back.
//!
//! The sheet has a key of its own, in a slot of its own, so that a lost sheet is made worthless without touching any other
//! key. The key goes into a file that only its owner may read, or onto the terminal: never to standard output, where it
//! would end in a log or a pipe.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use serde::Serialize;
use strongroom_console::{Console, Exit, Failed};
use strongroom_model::{Failure, Remedy, World};
use strongroom_object_store::S3Settings;
use strongroom_repository::keys::{Grants, KeyFile, NewKey, PassphraseCost, Unlock};
use strongroom_settings::{RepositoryArgs, open_repository};

use super::key::hex;

/// `strongroom repository key recovery-kit`
#[derive(Debug, clap::Args)]
pub struct KitArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// The file for the kit (mode 0600, must not exist), to be printed; `-` shows it on the terminal
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// The kit cannot be written to where it shall be.
#[derive(Debug, thiserror::Error)]
#[error("the recovery kit cannot be written to {place}")]
struct NoPlace {
    place: String,
    #[source]
    cause: io::Error,
}

impl Failure for NoPlace {
    fn code(&self) -> &'static str {
        "key.kit-place"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }

    fn advice(&self) -> String {
        "Name a file that does not exist, in a folder that you may write to; `--to -` needs a terminal."
            .into()
    }
}

/// What was made; never the key.
#[derive(Debug, Serialize)]
struct Made {
    slot: String,
    file: Option<PathBuf>,
    program_sha256: String,
}

/// What stands on the sheet beside the key.
struct Sheet {
    repository: String,
    location: String,
    surroundings: String,
    made: String,
    slot: String,
    sha256: String,
}

pub(super) async fn run(args: KitArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let settings = args.repository.resolve()?;
    let on_terminal = args.to == Path::new("-");
    let place = if on_terminal { Path::new("/dev/tty") } else { &args.to };
    let refused = |cause| NoPlace { place: place.display().to_string(), cause };
    let sha256 = program_sha256().map_err(refused)?;
    let repository = open_repository(&settings, world).await?.repository;
    // Opened before the slot is made, so that no slot is left for a sheet that cannot be written.
    let out = if on_terminal {
        OpenOptions::new().write(true).open(place)
    } else {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(place)
    };
    let out = out.map_err(refused)?;
    let undo = || {
        if !on_terminal {
            // Created a moment ago, and of no use.
            let _ = std::fs::remove_file(place);
        }
    };
    let now = world.clock.now();
    let day = now.to_string().chars().take(10).collect::<String>();
    let key = KeyFile::generate(&*world.entropy);
    let new = NewKey::Holder(Unlock::KeyFile(key.clone()));
    let label = format!("recovery kit {day}");
    let added = repository.add_slot(&new, Grants::Everything, &label, PassphraseCost::DEFAULT).await;
    let slot = added.inspect_err(|_| undo())?;
    let sheet = Sheet {
        repository: repository.id().to_string(),
        location: repository.location(),
        surroundings: surroundings(settings.s3.as_ref()),
        made: now.to_string(),
        slot: hex(&slot.id()),
        sha256: sha256.clone(),
    };
    if let Err(cause) = write(out, &sheet, &key) {
        undo();
        repository.remove_key(slot.id()).await?;
        return Err(refused(cause).into());
    }
    let file = (!on_terminal).then(|| args.to.clone());
    let made = Made { slot: sheet.slot, file, program_sha256: sha256 };
    console.result(&made, |text| {
        if let Some(file) = &made.file {
            text.line(format_args!(
                "the recovery kit is in {}: print it, then delete the file",
                file.display()
            ));
        }
        text.line(format_args!("its key is slot {}; whoever has the sheet can read everything", made.slot));
    });
    Ok(Exit::Done)
}

/// What the commands need from the environment, to be put before them.
fn surroundings(s3: Option<&S3Settings>) -> String {
    let Some(s3) = s3 else { return String::new() };
    let endpoint = s3.endpoint.as_ref().map(|endpoint| format!("AWS_ENDPOINT_URL={endpoint} "));
    let region = s3.region.as_ref().map(|region| format!("AWS_REGION={region} "));
    [endpoint, region].into_iter().flatten().collect()
}

/// The sheet, line by line: the key is never part of a longer text that is copied about.
fn write(mut out: File, sheet: &Sheet, key: &KeyFile) -> io::Result<()> {
    let Sheet { repository, location, surroundings, made, slot, sha256 } = sheet;
    let version = env!("CARGO_PKG_VERSION");
    let (system, machine) = (std::env::consts::OS, std::env::consts::ARCH);
    write!(
        out,
        "STRONGROOM RECOVERY KIT\n\
         \n\
         Whoever has this sheet and can read the bucket can read every backup in it.\n\
         Keep it where no stranger sees it and no fire reaches it together with the data.\n\
         \n\
         repository   {repository}\n\
         location     {location}\n\
         made         {made}\n\
         program      strongroom {version}, {system} {machine}, repository format 1\n\
         SHA-256      {}\n\
         \x20            {}\n\
         \n\
         THE KEY\n\
         \n",
        &sha256[..32],
        &sha256[32..],
    )?;
    for line in key.paper() {
        out.write_all(b"   ")?;
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
    }
    write!(
        out,
        "\n\
         The last four digits of each line find typing errors in it. Spaces, and upper or\n\
         lower case, do not matter.\n\
         \n\
         TO RECOVER, on any machine with the program and read access to the bucket (its\n\
         credentials are not on this sheet). Both commands ask for the key: type the four lines.\n\
         \n\
         1. What is there:\n\
         \n\
         \x20  {surroundings}strongroom points list \\\n\
         \x20    --repository '{location}' --key-file -\n\
         \n\
         2. Bring a volume back into a file (or: --to-device, --to-volume):\n\
         \n\
         \x20  {surroundings}strongroom restore run --volume NAME --latest --to-file NAME.img --yes \\\n\
         \x20    --repository '{location}' --key-file -\n\
         \n\
         WHEN THIS SHEET IS LOST: strongroom repository key rotate --remove {slot}\n"
    )?;
    if out.metadata()?.is_file() { out.sync_all() } else { out.flush() }
}

/// The hash of the running program: `sha256sum strongroom` tells whether another copy is the same.
fn program_sha256() -> io::Result<String> {
    let mut program = File::open("/proc/self/exe")?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match program.read(&mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let hash = hash.finish();
    Ok(hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}
