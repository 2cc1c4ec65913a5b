# perl: reads records, keeps hashes, sorts, uses regexes, pack, sprintf, local files, a child through a pipe; prints a report.
use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
$| = 1;
my (%count, %sum, $lines);
while (my $line = <STDIN>) {
  chomp $line;
  $lines++;
  my ($key, $value) = $line =~ /^(\w+)\s+(\d+)/ or die "bad line: $line";
  $count{$key}++;
  $sum{$key} = ($sum{$key} // 0) + $value;
  my $text = join ',', map { sprintf '%03x', $_ ^ $value % 4096 } 1 .. 40;
  $text =~ s/(\d)([a-f])/$2$1/g;
  $sum{$key} += unpack '%32C*', $text;
  print "at $lines ", md5_hex($text), "\n" if $lines % 5000 == 0;
}
open my $out, '>', 'report' or die $!;
print $out "$_ $count{$_} $sum{$_}\n" for sort keys %count;
close $out or die $!;
open my $child, '-|', 'sort', '-k3n', 'report' or die $!;
my @sorted = <$child>;
close $child or die $!;
print "first $sorted[0]last $sorted[-1]";
printf "perl: %d lines, %d keys\n", $lines, scalar keys %count;
