//! The program: parse, run, print an error once, exit with its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    match emaj::cli::run(std::env::args_os()) {
        Ok(code) => code,
        Err(error) => {
            emaj::ui::print_error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
