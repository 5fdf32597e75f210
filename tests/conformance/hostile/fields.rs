//! The fields of a request, found in its descriptor, and how something is put into them.

use std::fmt;

use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};

use crate::call::name_of;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    /// Strings, in lists and maps too.
    Text,
    /// Numbers and choices.
    Number,
}

/// The part of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Itself,
    Key,
    Value,
}

/// One place in a request that holds one value.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    /// The fields that lead there, the last one being it.
    way: Vec<FieldDescriptor>,
    part: Part,
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.way.iter().map(|field| field.name()).collect();
        write!(f, "{}", names.join("."))?;
        match self.part {
            Part::Itself => Ok(()),
            Part::Key => write!(f, " (key)"),
            Part::Value => write!(f, " (value)"),
        }
    }
}

/// All leaves of a call's request.
pub(crate) fn leaves(pool: &DescriptorPool, path: &str, sort: Sort) -> Vec<Leaf> {
    let request = message(pool, path);
    let mut all = Vec::new();
    walk(&request, &[], sort, &mut all);
    all
}

/// The descriptor of a call's request.
pub(crate) fn message(pool: &DescriptorPool, path: &str) -> MessageDescriptor {
    pool.get_message_by_name(&format!("csi.v1.{}Request", name_of(path))).unwrap()
}

fn walk(message: &MessageDescriptor, way: &[FieldDescriptor], sort: Sort, all: &mut Vec<Leaf>) {
    for field in message.fields() {
        let way: Vec<FieldDescriptor> = way.iter().cloned().chain([field.clone()]).collect();
        let wanted = |kind: &Kind| match sort {
            Sort::Text => matches!(kind, Kind::String),
            Sort::Number => matches!(kind, Kind::Int32 | Kind::Int64 | Kind::Enum(_)),
        };
        match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                for (part, kind) in [
                    (Part::Key, entry.map_entry_key_field().kind()),
                    (Part::Value, entry.map_entry_value_field().kind()),
                ] {
                    if wanted(&kind) {
                        all.push(Leaf { way: way.clone(), part });
                    }
                }
            }
            Kind::Message(inner) => walk(&inner, &way, sort, all),
            kind if wanted(&kind) => all.push(Leaf { way, part: Part::Itself }),
            _ => {}
        }
    }
}

impl Leaf {
    fn last(&self) -> &FieldDescriptor {
        self.way.last().expect("a leaf is somewhere")
    }

    /// A path on this machine.
    pub(crate) fn is_path(&self) -> bool {
        self.last().name().ends_with("_path")
    }

    /// Somewhere in the way of using a volume as a folder.
    pub(crate) fn is_of_mount(&self) -> bool {
        self.way.iter().any(|field| field.name() == "mount")
    }

    /// The driver keeps it, or makes something of it: then each value has to start from nothing. Others are accepted again and
    /// again for what is there.
    pub(crate) fn is_kept(&self) -> bool {
        let first = self.way[0].name();
        self.is_path() || self.is_of_mount() || matches!(first, "name" | "parameters" | "mutable_parameters")
    }

    /// How many bytes the standard allows here: for strings, for paths, for maps and flags together.
    pub(crate) fn limit(&self) -> usize {
        match self.last().name() {
            name if name.ends_with("_path") || name == "mount_flags" => 4096,
            "node_id" => 256,
            _ if self.part != Part::Itself => 4096,
            _ => 128,
        }
    }

    /// Puts a value there. Lists get one more entry; a map gets a key more, or this value for every key that it has.
    pub(crate) fn put(&self, message: &mut DynamicMessage, value: Value) {
        put(message, &self.way, self.part, value);
    }

    /// The numbers at the ends, and around what a volume has.
    pub(crate) fn extremes(&self) -> Vec<Value> {
        let small = [i32::MIN, -1, 0, 1, 2, 3, 7, 8, 99, i32::MAX - 1, i32::MAX];
        match self.last().kind() {
            Kind::Enum(_) => small.map(Value::EnumNumber).into(),
            Kind::Int32 => small.map(Value::I32).into(),
            _ => {
                let large = [i64::MIN, i64::MIN + 1, i64::from(i32::MIN), 4095, 4096, 4097, 1 << 32, 1 << 53];
                let largest = [1 << 60, (1 << 62) + 1, i64::MAX - 4096, i64::MAX - 1, i64::MAX];
                small.iter().map(|one| i64::from(*one)).chain(large).chain(largest).map(Value::I64).collect()
            }
        }
    }
}

fn put(message: &mut DynamicMessage, way: &[FieldDescriptor], part: Part, value: Value) {
    let (field, rest) = way.split_first().expect("a leaf is somewhere");
    let there = message.get_field_mut(field);
    match (there, rest.is_empty()) {
        (Value::Map(map), true) => {
            let text = |value: Value| value.as_str().expect("maps of CSI hold strings").to_owned();
            if part == Part::Key {
                map.insert(MapKey::String(text(value)), Value::String("value".to_owned()));
            } else if map.is_empty() {
                map.insert(MapKey::String("key".to_owned()), value);
            } else {
                map.values_mut().for_each(|one| *one = value.clone());
            }
        }
        (Value::List(list), true) => list.push(value),
        (there, true) => *there = value,
        (Value::List(list), false) => {
            let Kind::Message(inner) = field.kind() else { panic!("only messages have fields") };
            if list.is_empty() {
                list.push(Value::Message(DynamicMessage::new(inner)));
            }
            let Value::Message(first) = &mut list[0] else { panic!("a list of messages") };
            put(first, rest, part, value);
        }
        (Value::Message(inner), false) => put(inner, rest, part, value),
        (other, false) => panic!("{other:?} has no fields"),
    }
}
