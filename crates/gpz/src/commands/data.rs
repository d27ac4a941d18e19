//! `gpz data`: built-in sets, and what a set holds.

use anyhow::Result;
use clap::{Args, Subcommand};
use gpz_audit::sweep::{check_classes, open_dataset};
use gpz_audit::words::counted;
use gpz_data::{SplitPlan, Summary, built_in};
use serde::Serialize;

use crate::commands::table::table;
use crate::commands::{print, print_json};
use crate::progress::{Progress, stop_on_interrupt};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gpz data list
  gpz data verify                    the embedded images
  gpz data verify photos/ --json

A set is a built-in name or a path: a folder of class folders with PNG or JPEG files (with or without train, validation, auxiliary \
and test above), a folder of IDX files as MNIST has them, a folder of CIFAR-10 binary batches, or an .npz with train_data, train_labels and so on.")]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the built-in sets
    #[command(after_help = "Example:\n  gpz data list --json")]
    List {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Read a whole set, cut it into parts as every command does, and say what there is
    #[command(after_help = "Example:\n  gpz data verify photos/ --json")]
    Verify {
        /// Built-in set or path
        #[arg(default_value = "fashion-mnist")]
        set: String,
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
}

/// Lists or verifies.
pub(crate) fn run(args: &DataArgs) -> Result<()> {
    match &args.action {
        Action::List { json: true } => print_json(&built_in()),
        Action::List { json: false } => {
            let rows: Vec<Vec<String>> = built_in()
                .iter()
                .map(|set| {
                    let images = set.images.to_string();
                    vec![
                        set.name.to_owned(),
                        images,
                        set.shape.to_string(),
                        set.licence.to_owned(),
                        set.description.to_owned(),
                    ]
                })
                .collect();
            print(&table(&["set", "images", "stored", "licence", "what it is"], &rows, &[1]))
        }
        Action::Verify { set, json } => {
            stop_on_interrupt();
            let dataset = open_dataset(set, &mut Progress::new())?;
            let parts = dataset.split(&SplitPlan::default())?;
            let verified = Verified {
                summary: Summary::of(&dataset, &parts),
                audit_refuses: check_classes(&parts).err().map(|error| error.to_string()),
            };
            if *json { print_json(&verified) } else { print(&for_people(&verified)) }
        }
    }
}

/// What a set holds, and whether that is enough.
#[derive(Serialize)]
struct Verified {
    #[serde(flatten)]
    summary: Summary,
    /// Why an audit cannot measure the set, if it cannot.
    audit_refuses: Option<String>,
}

fn for_people(Verified { summary, audit_refuses }: &Verified) -> String {
    let range = |counts: &[usize]| match (counts.iter().min(), counts.iter().max()) {
        (Some(least), Some(most)) if least == most => least.to_string(),
        (Some(least), Some(most)) => format!("{least} to {most}"),
        _ => String::new(),
    };
    let rows: Vec<Vec<String>> = summary
        .parts
        .iter()
        .map(|part| {
            vec![
                part.part.to_string(),
                part.images.to_string(),
                range(&part.per_class),
                part.shape.to_string(),
            ]
        })
        .collect();
    let mut text = format!(
        "{}: {}, {}, {} images, {} classes\n{}",
        summary.name,
        if audit_refuses.is_none() {
            "sound"
        } else {
            "every file is sound, but the set is too small to audit"
        },
        summary.format,
        summary.images,
        summary.classes.len(),
        table(&["part", "images", "per class", "stored"], &rows, &[1, 2])
    );
    if let Some(reason) = audit_refuses {
        text += &format!("\n{reason}");
    }
    let duplicates = &summary.duplicates;
    let stand =
        |n: usize| format!("{} stand{}", counted(n, "picture"), if n == 1 { "s" } else { "" });
    if duplicates.within_parts > 0 {
        text += &format!("\n{} in their part more than once", stand(duplicates.within_parts));
    }
    for shared in &duplicates.across_parts {
        text += &format!(
            "\n{} in {} and in {}: the parts are not independent",
            stand(shared.pictures),
            shared.a,
            shared.b
        );
    }
    text
}
