//! Commands: `shell:`, `exec:`, `abb:` and `abb_exec:`.

use crate::console::Console;
use crate::device::{Command, Device, Output};
use crate::stream::Closed;

/// One command line.
pub(super) async fn line<D: Device>(device: &D, mut console: Console<'_>, line: &str) -> Result<(), Closed> {
    let output = device.run(Command::Line(line), &mut console).await;
    answer(console, output).await
}

/// A system service.
pub(super) async fn system_service<D: Device>(
    device: &D,
    mut console: Console<'_>,
    arguments: &[String],
) -> Result<(), Closed> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let output = device.run(Command::Service(&arguments), &mut console).await;
    answer(console, output).await
}

/// A shell without terminal: each line of the input is a command; the last exit code is the shell's.
pub(super) async fn lines<D: Device>(device: &D, mut console: Console<'_>) -> Result<(), Closed> {
    let mut code = 0;
    while let Some(line) = console.line().await {
        match line.trim() {
            "" => continue,
            "exit" => break,
            line => {
                let output = device.run(Command::Line(line), &mut console).await;
                code = output.code;
                console.finish(&output).await?;
            }
        }
    }
    console.exit(code).await
}

async fn answer(mut console: Console<'_>, output: Output) -> Result<(), Closed> {
    console.finish(&output).await?;
    console.exit(output.code).await
}
