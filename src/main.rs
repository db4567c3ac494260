//! Entry point: everything is in the library, so that tests and benches can reach it.

fn main() -> std::process::ExitCode {
    fleet_manager::cli::main()
}
