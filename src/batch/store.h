// Store: the registry of batch jobs, an SQLite file (docs/formats/batch-registry.md). Rows in, rows
// out; it decides nothing. One thread uses it. Every write is on the disk when commit() returns.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "batch/queue.h"

struct sqlite3;

namespace tess::batch {

struct JobRow {
  uint64_t id = 0;
  std::string spec;  // encode()
  Time submitted{0};
  bool held = false;
  std::string cancelled;  // why; empty: it is not
};

struct TaskRow {
  TaskId id;
  TaskInfo info;
};

class Store {
 public:
  // Makes or opens the file; one of a newer version is refused.
  static Result<Store> open(const std::string& path);
  ~Store();
  Store(Store&& other) noexcept : db_(std::exchange(other.db_, nullptr)) {}
  Store& operator=(Store&&) = delete;

  Result<std::vector<JobRow>> jobs() const;
  Result<std::vector<TaskRow>> tasks() const;  // those that have begun or ended

  Result<> begin();
  Result<> commit();
  void rollback();

  // Gives it a number that no job has had.
  Result<uint64_t> add_job(const std::string& spec, Time submitted, bool held);
  Result<> hold_job(uint64_t job, bool on);
  Result<> cancel_job(uint64_t job, const std::string& why);
  Result<> put_task(const TaskRow& row);
  Result<> forget_job(uint64_t job);

 private:
  class Statement;
  explicit Store(sqlite3* db) : db_(db) {}
  Result<> execute(const char* sql) const;

  sqlite3* db_ = nullptr;
};

}  // namespace tess::batch
