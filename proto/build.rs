//! Turns the .proto files into Rust, without a system protoc, and takes the secrets out of `Debug`.
//!
//! prost derives `Debug` for every message, so printing a request would print its credentials. Every message with a
//! field that may hold a secret is found in the descriptors, gets no derived `Debug`, and one that tells only how
//! many secrets there are. A message added tomorrow is covered without anybody thinking of it.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost_types::{DescriptorProto, FileDescriptorSet};
use protox::prost::Message as _;

/// Fields that may hold secrets, whatever message they are in. CSI marks `secrets`, and says that mount flags may
/// be sensitive.
const SECRET_FIELDS: [&str; 2] = ["secrets", "mount_flags"];

/// A message with secrets: its full name on the wire, its path in Rust below its package, its fields.
struct Secretive {
    wire: String,
    rust: String,
    fields: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    for input in ["csi.proto", "strongroom.proto"] {
        println!("cargo:rerun-if-changed={input}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let descriptors = protox::compile(["csi.proto", "strongroom.proto"], ["."])?;
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let secretive = secretive(&descriptors);
    fs::write(out.join("redacted.rs"), redacted(&secretive)?)?;
    fs::write(out.join("redacted_cases.rs"), cases(&secretive)?)?;
    fs::write(out.join("limits.rs"), limits(&descriptors)?)?;
    tonic_prost_build::configure()
        .codec_path("crate::limits::LimitedCodec")
        .skip_debug(secretive.iter().map(|message| format!(".{}", message.wire)))
        .compile_fds(descriptors)?;
    forbid_unknown_packages(&out)
}

/// The two packages have a module each in lib.rs; a third would be compiled and never seen.
fn forbid_unknown_packages(out: &Path) -> Result<(), Box<dyn Error>> {
    for package in ["csi.v1.rs", "strongroom.v1.rs"] {
        if !out.join(package).is_file() {
            return Err(format!("no code was generated for {package}").into());
        }
    }
    Ok(())
}

fn secretive(descriptors: &FileDescriptorSet) -> Vec<Secretive> {
    let mut found = Vec::new();
    for file in &descriptors.file {
        for message in &file.message_type {
            collect(message, file.package(), "", &mut found);
        }
    }
    found
}

fn collect(message: &DescriptorProto, wire_parent: &str, rust_parent: &str, found: &mut Vec<Secretive>) {
    let wire = format!("{wire_parent}.{}", message.name());
    if message.field.iter().any(|field| SECRET_FIELDS.contains(&field.name())) {
        found.push(Secretive {
            wire: wire.clone(),
            rust: format!("{rust_parent}{}", message.name()),
            fields: message.field.iter().map(|field| field.name().to_owned()).collect(),
        });
    }
    let rust = format!("{rust_parent}{}::", snake(message.name()));
    for nested in &message.nested_type {
        collect(nested, &wire, &rust, found);
    }
}

/// `VolumeCapability` as the module `volume_capability` that prost makes for what is nested in it.
fn snake(name: &str) -> String {
    let mut text = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

fn redacted(secretive: &[Secretive]) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    for Secretive { wire, rust, fields } in secretive {
        let module = module(wire)?;
        let name = rust.rsplit("::").next().unwrap_or(rust);
        writeln!(text, "impl fmt::Debug for crate::{module}::{rust} {{")?;
        writeln!(text, "    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {{")?;
        write!(text, "        f.debug_struct({name:?})")?;
        for field in fields {
            if SECRET_FIELDS.contains(&field.as_str()) {
                write!(text, ".field({field:?}, &Withheld(self.{field}.len()))")?;
            } else {
                write!(text, ".field({field:?}, &self.{field})")?;
            }
        }
        writeln!(text, ".finish()\n    }}\n}}")?;
    }
    Ok(text)
}

/// For the test: how each of these messages prints itself when it is read from the wire.
fn cases(secretive: &[Secretive]) -> Result<String, Box<dyn Error>> {
    let mut text = String::from("[\n");
    for Secretive { wire, rust, .. } in secretive {
        let module = module(wire)?;
        writeln!(text, "    ({wire:?}, print::<crate::{module}::{rust}> as Print),")?;
    }
    text.push(']');
    Ok(text)
}

fn module(wire: &str) -> Result<&'static str, String> {
    if wire.starts_with("csi.v1.") {
        Ok("csi")
    } else if wire.starts_with("strongroom.v1.") {
        Ok("control")
    } else {
        Err(format!("{wire} is in a package that has no module"))
    }
}

/// The list of what CSI's messages may hold, sorted by their names; see src/limits.rs, which also says where the numbers
/// come from.
fn limits(descriptors: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let mut list = Vec::new();
    let mut text = String::new();
    for file in &descriptors.file {
        let Ok(module) = module(&format!("{}.", file.package())) else { continue };
        for message in &file.message_type {
            let name = message.name();
            let known = module == "csi" && name.ends_with("Request");
            let known = if known { format!("Some({name:?})") } else { "None".to_owned() };
            writeln!(text, "impl Limits for crate::{module}::{name} {{")?;
            writeln!(text, "    const MESSAGE: Option<&'static str> = {known};\n}}")?;
            if module == "csi" {
                limits_of(message, "", &mut list);
            }
        }
    }
    list.sort();
    writeln!(
        text,
        "static LIMITS: &[Fields] = &[{}];",
        list.iter().map(|(name, fields)| format!("({name:?}, &[{fields}])")).collect::<Vec<_>>().join(",\n")
    )?;
    Ok(text)
}

fn limits_of(message: &DescriptorProto, parent: &str, list: &mut Vec<(String, String)>) {
    use prost_types::field_descriptor_proto::{Label, Type};
    let name = format!("{parent}{}", message.name());
    let mut fields = String::new();
    for field in &message.field {
        let part = field.type_name().trim_start_matches(".csi.v1.");
        let is_map = message.nested_type.iter().any(|nested| {
            nested.options.as_ref().is_some_and(|options| options.map_entry())
                && part == format!("{name}.{}", nested.name())
        });
        let kind = match (field.r#type(), field.name()) {
            (Type::String, "mount_flags") => "Texts(4096)".to_owned(),
            (Type::String, "node_id") => "Text(256)".to_owned(),
            // The kernel's limit for a path, without the closing NUL.
            (Type::String, path) if path.ends_with("_path") && field.label() != Label::Repeated => {
                "Text(4095)".to_owned()
            }
            (Type::String, _) => "Text(128)".to_owned(),
            (Type::Message, _) if is_map => "Map(4096)".to_owned(),
            (Type::Message, _) if field.type_name().starts_with(".csi.v1.") => format!("Part({part:?})"),
            _ => continue,
        };
        fields += &format!("({}, {:?}, Kind::{kind}), ", field.number(), field.name());
    }
    list.push((name.clone(), fields));
    for nested in &message.nested_type {
        limits_of(nested, &format!("{name}."), list);
    }
}
