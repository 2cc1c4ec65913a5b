# Tcl: events, timers, arrays, regular expressions, a pipe to a child, files.
proc round {} {
  set sum 0
  array set seen {}
  for {set i 0} {$i < 4000} {incr i} {
    set word [format "w%04d" [expr {($i * 7919) % 1000}]]
    incr seen($word)
    if {[regexp {w(\d)(\d+)} $word -> a b]} { incr sum [expr {$a + [scan $b %d]}] }
  }
  set ::rang 0
  after 3 {set ::rang 1}
  vwait ::rang
  set pipe [open "|sort -r" r+]
  foreach w [lrange [lsort [array names seen]] 0 99] { puts $pipe $w }
  close $pipe write
  set sorted [read $pipe]
  close $pipe
  set f [open tcl-file w]; puts -nonewline $f $sorted; close $f
  set f [open tcl-file]; set again [read $f]; close $f
  if {$again ne $sorted} { error "file" }
  return "$sum [array size seen] [lindex $sorted 0] [string length $sorted]"
}
set first [round]
puts "ready $first"
flush stdout
while {![file exists stop]} {
  if {[round] ne $first} { puts "round differs"; exit 1 }
}
puts "tcl: all rounds alike"
