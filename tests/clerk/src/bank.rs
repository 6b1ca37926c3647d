//! Transfers between accounts, over and over, by PostgreSQL's own client.
//!
//! ```text
//!   account  id, balance, note       a transfer takes from one, gives to another and writes into the ledger, in one transaction
//!   ledger   id, giver, taker, sum   the sum of all balances stays zero
//! ```

use std::fmt::Display;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use crate::Done;

/// Accounts in the table, as `tests/debian/bank.sql` makes them.
const ACCOUNTS: u64 = 400_000;

/// Transfers between two looks at all the books, which take as long as a dozen of transfers.
const BETWEEN_AUDITS: u64 = 150;

/// Works until something is wrong with the database itself; says what.
pub(crate) fn run(done: &Done) -> impl Display {
    let ended = Bank::open().and_then(|mut bank| bank.work(done));
    match ended {
        Ok(never) => match never {},
        Err(error) => format!("the database: {error}"),
    }
}

/// There is no good end.
enum Never {}

struct Bank {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    state: u64,
}

impl Bank {
    fn open() -> io::Result<Self> {
        let mut child = Command::new("psql")
            .args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-h", "/run/postgresql"])
            .args(["-U", "postgres", "bank"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ends = child.stdin.take().zip(child.stdout.take());
        let (to, from) = ends.ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self {
            to,
            from: BufReader::new(from),
            state: 0x9e37_79b9_7f4a_7c15,
        })
    }

    fn work(&mut self, done: &Done) -> io::Result<Never> {
        // What earlier lives of the image have left in it.
        let begun = self.ask("SELECT count(*) FROM ledger;")?;
        let begun: u64 = begun.parse().map_err(io::Error::other)?;
        let mut transfers = 0;
        loop {
            for _ in 0..BETWEEN_AUDITS {
                self.transfer()?;
                transfers += 1;
                Done::count(&done.transfers);
            }
            self.audit(begun + transfers, done)?;
            Done::count(&done.balanced);
        }
    }

    fn transfer(&mut self) -> io::Result<()> {
        let (giver, taker) = (self.account(), self.account());
        let sum = self.number() % 1000;
        let said = self.ask(&format!(
            "BEGIN; UPDATE account SET balance = balance - {sum} WHERE id = {giver}; \
             UPDATE account SET balance = balance + {sum} WHERE id = {taker}; \
             INSERT INTO ledger (giver, taker, sum) VALUES ({giver}, {taker}, {sum}); COMMIT; SELECT 'done';"
        ))?;
        match said.as_str() {
            "done" => Ok(()),
            other => Err(io::Error::other(format!("it said `{other}`"))),
        }
    }

    fn audit(&mut self, transfers: u64, done: &Done) -> io::Result<()> {
        let sum = self.ask("SELECT sum(balance) FROM account;")?;
        if sum != "0" {
            done.bad(&format!("the sum of all accounts is {sum}"));
        }
        let entries = self.ask("SELECT count(*) FROM ledger;")?;
        if entries != transfers.to_string() {
            done.bad(&format!("the ledger has {entries} entries of {transfers}"));
        }
        Ok(())
    }

    /// One line of questions, one line of answer.
    fn ask(&mut self, question: &str) -> io::Result<String> {
        writeln!(self.to, "{question}")?;
        self.to.flush()?;
        let mut answer = String::new();
        if self.from.read_line(&mut answer)? == 0 {
            return Err(io::Error::other("psql has ended"));
        }
        Ok(answer.trim_end().to_owned())
    }

    /// Most transfers are between few accounts, as in a shop: one of a hundred accounts has nine of ten.
    fn account(&mut self) -> u64 {
        let number = self.number();
        let among = match number % 10 {
            0 => ACCOUNTS,
            _ => ACCOUNTS / 100,
        };
        1 + (number >> 8) % among
    }

    /// Xorshift: the same in every run.
    fn number(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state >> 16
    }
}
