#include "batch/store.h"

#include <sqlite3.h>

#include <utility>

namespace tess::batch {
namespace {

constexpr int kVersion = 1;
constexpr const char* kSchema =
    "CREATE TABLE job (id INTEGER PRIMARY KEY AUTOINCREMENT, spec TEXT NOT NULL,"
    "  submitted_ms INTEGER NOT NULL, held INTEGER NOT NULL, cancelled TEXT NOT NULL);"
    "CREATE TABLE task (job INTEGER NOT NULL, task INTEGER NOT NULL, state TEXT NOT NULL,"
    "  attempt INTEGER NOT NULL, cancelling INTEGER NOT NULL, started_ms INTEGER NOT NULL,"
    "  ended_ms INTEGER NOT NULL, exit_code INTEGER NOT NULL, outcome TEXT NOT NULL,"
    "  PRIMARY KEY (job, task)) WITHOUT ROWID;"
    "PRAGMA user_version = 1;";

tl::unexpected<Error> failed(sqlite3* db, const char* doing) {
  const int code = sqlite3_errcode(db);
  const bool later = code == SQLITE_FULL || code == SQLITE_BUSY || code == SQLITE_IOERR;
  return fail(later ? ErrorKind::kRetry : ErrorKind::kFailed, "{} the registry of jobs: {}", doing,
              sqlite3_errmsg(db));
}

}  // namespace

class Store::Statement {
 public:
  Statement(sqlite3* db, const char* sql) : db_(db) {
    (void)sqlite3_prepare_v2(db, sql, -1, &statement_, nullptr);
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(int64_t value) {
    sqlite3_bind_int64(statement_, ++at_, value);
    return *this;
  }
  // Must outlive the statement's run.
  Statement& bind(const std::string& text) {
    sqlite3_bind_text64(statement_, ++at_, text.data(), text.size(), SQLITE_STATIC, SQLITE_UTF8);
    return *this;
  }
  Result<> run() {
    return statement_ != nullptr && sqlite3_step(statement_) == SQLITE_DONE
               ? Result<>()
               : Result<>(failed(db_, "write"));
  }
  // False: no more rows.
  Result<bool> next() {
    const int code = statement_ == nullptr ? SQLITE_ERROR : sqlite3_step(statement_);
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
      return failed(db_, "read");
    }
    return code == SQLITE_ROW;
  }
  int64_t number(int column) const { return sqlite3_column_int64(statement_, column); }
  std::string text(int column) const {
    const auto* bytes = sqlite3_column_text(statement_, column);
    return bytes == nullptr ? std::string()
                            : std::string(reinterpret_cast<const char*>(bytes),
                                          sqlite3_column_bytes(statement_, column));
  }

 private:
  sqlite3* db_;
  sqlite3_stmt* statement_ = nullptr;
  int at_ = 0;
};

Result<Store> Store::open(const std::string& path) {
  sqlite3* db = nullptr;
  const int code = sqlite3_open_v2(
      path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  Store store(db);
  if (code != SQLITE_OK) {
    return fail(ErrorKind::kFailed, "open {}: {}", path, sqlite3_errstr(code));
  }
  sqlite3_busy_timeout(db, 2000);
  // FULL: what was promised to somebody is still there after the machine lost its power.
  TESS_TRY(store.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"));
  Statement version(db, "PRAGMA user_version");
  TESS_TRY_ASSIGN(const bool has_version, version.next());
  const int64_t found = has_version ? version.number(0) : 0;
  if (found > kVersion) {
    return fail(ErrorKind::kNotPossible,
                "{} is of version {}, this tessd knows {}: it was written by a newer one", path,
                found, kVersion);
  }
  if (found == 0) {
    TESS_TRY(store.begin());
    TESS_TRY(store.execute(kSchema));
    TESS_TRY(store.commit());
  }
  return store;
}

Store::~Store() {
  sqlite3_close(db_);
}

Result<> Store::execute(const char* sql) const {
  return sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) == SQLITE_OK
             ? Result<>()
             : Result<>(failed(db_, "write"));
}

Result<> Store::begin() {
  return execute("BEGIN IMMEDIATE");
}
Result<> Store::commit() {
  return execute("COMMIT");
}
void Store::rollback() {
  (void)execute("ROLLBACK");
}

Result<std::vector<JobRow>> Store::jobs() const {
  std::vector<JobRow> rows;
  Statement select(db_, "SELECT id, spec, submitted_ms, held, cancelled FROM job ORDER BY id");
  while (true) {
    TESS_TRY_ASSIGN(const bool more, select.next());
    if (!more) {
      return rows;
    }
    rows.push_back({static_cast<uint64_t>(select.number(0)), select.text(1), Time(select.number(2)),
                    select.number(3) != 0, select.text(4)});
  }
}

Result<std::vector<TaskRow>> Store::tasks() const {
  std::vector<TaskRow> rows;
  Statement select(db_,
                   "SELECT job, task, state, attempt, cancelling, started_ms, ended_ms, exit_code,"
                   " outcome FROM task ORDER BY job, task");
  while (true) {
    TESS_TRY_ASSIGN(const bool more, select.next());
    if (!more) {
      return rows;
    }
    const auto state = state_of(select.text(2));
    if (!state) {
      return fail(ErrorKind::kBadInput, "the registry of jobs has a task in state '{}'",
                  select.text(2));
    }
    TaskRow row;
    row.id = {static_cast<uint64_t>(select.number(0)), static_cast<uint32_t>(select.number(1))};
    row.info.state = *state;
    row.info.attempt = static_cast<uint32_t>(select.number(3));
    row.info.cancelling = select.number(4) != 0;
    row.info.started = Time(select.number(5));
    row.info.ended = Time(select.number(6));
    row.info.exit_code = static_cast<int>(select.number(7));
    row.info.outcome = select.text(8);
    rows.push_back(std::move(row));
  }
}

Result<uint64_t> Store::add_job(const std::string& spec, Time submitted, bool held) {
  Statement insert(db_,
                   "INSERT INTO job (spec, submitted_ms, held, cancelled) VALUES (?, ?, ?, '')");
  TESS_TRY(insert.bind(spec).bind(submitted.count()).bind(held ? 1 : 0).run());
  return static_cast<uint64_t>(sqlite3_last_insert_rowid(db_));
}

Result<> Store::hold_job(uint64_t job, bool on) {
  Statement update(db_, "UPDATE job SET held = ? WHERE id = ?");
  return update.bind(on ? 1 : 0).bind(static_cast<int64_t>(job)).run();
}

Result<> Store::cancel_job(uint64_t job, const std::string& why) {
  Statement update(db_, "UPDATE job SET cancelled = ? WHERE id = ?");
  return update.bind(why).bind(static_cast<int64_t>(job)).run();
}

Result<> Store::put_task(const TaskRow& row) {
  Statement put(db_, "INSERT OR REPLACE INTO task VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
  const std::string state = to_text(row.info.state);
  return put.bind(static_cast<int64_t>(row.id.job))
      .bind(row.id.task)
      .bind(state)
      .bind(row.info.attempt)
      .bind(row.info.cancelling ? 1 : 0)
      .bind(row.info.started.count())
      .bind(row.info.ended.count())
      .bind(row.info.exit_code)
      .bind(row.info.outcome)
      .run();
}

Result<> Store::forget_job(uint64_t job) {
  Statement tasks(db_, "DELETE FROM task WHERE job = ?");
  TESS_TRY(tasks.bind(static_cast<int64_t>(job)).run());
  Statement jobs(db_, "DELETE FROM job WHERE id = ?");
  return jobs.bind(static_cast<int64_t>(job)).run();
}

}  // namespace tess::batch
