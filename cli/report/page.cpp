#include "cli/report/page.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "cli/report/style.h"
#include "switchyard/switchyard.h"

namespace switchyard::cli::report {
namespace {

constexpr int kGap = 16;

std::string attribute(const std::string& style) {
  return style.empty() ? "" : fmt::format(" class=\"{}\"", style);
}

std::string html(const Table& table) {
  std::string rows, head;
  for (std::size_t i = 0; i < table.head.size(); ++i) {
    const bool words = table.rows.front()[i].style == "words";
    head += fmt::format("<th scope=\"col\"{}>{}</th>", attribute(words ? "words" : ""),
                        escaped(table.head[i]));
  }
  for (const std::vector<Table::Cell>& row : table.rows) {
    rows += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string style = attribute(row[i].style), text = escaped(row[i].text);
      rows += i == 0 ? fmt::format("<th scope=\"row\"{}>{}</th>", style, text)
                     : fmt::format("<td{}>{}</td>", style, text);
    }
    rows += "</tr>\n";
  }
  const std::string caption =
      table.name.empty() ? "" : fmt::format("<caption>{}</caption>", escaped(table.name));
  return fmt::format(
      "<div class=\"scroll\" tabindex=\"0\"><table>{}<thead><tr>{}</tr></thead>\n<tbody>\n{}"
      "</tbody></table></div>\n",
      caption, head, rows);
}

std::string html(const Figure& figure) {
  if (figure.chart.empty())
    return fmt::format("<figure class=\"wide\">{}</figure>\n", html(figure.table));
  const Chart& chart = figure.chart.front();
  const std::string table = figure.table.rows.empty() ? ""
                                                      : "<details><summary>The numbers</summary>" +
                                                            html(figure.table) + "</details>";
  return fmt::format(
      "<figure><svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}: "
      "{}\">{}</svg>\n{}</figure>\n",
      kChartWidth, kChartHeight, escaped(chart.title), escaped(chart.y_name), to_svg(chart), table);
}

std::string html(const Section& section) {
  std::string figures;
  for (const Figure& figure : section.figures) figures += html(figure);
  return fmt::format(
      "<section id=\"{}\"><h2>{}</h2>\n<p>{}</p>\n<div class=\"figures\">{}</div></section>\n",
      section.id, escaped(section.title), escaped(section.text), figures);
}

std::string navigation(const std::vector<Section>& sections) {
  std::string links;
  for (const Section& section : sections)
    links += fmt::format("<a href=\"#{}\">{}</a>\n", section.id, escaped(section.title));
  return "<nav aria-label=\"Sections\">" + links + "</nav>\n";
}

std::string list(const std::vector<std::string>& lines) {
  std::string items;
  for (const std::string& line : lines) items += fmt::format("<li>{}</li>\n", escaped(line));
  return "<ul>" + items + "</ul>\n";
}

std::string origin(const Source& source) {
  std::set<std::string> commits, dates;
  for (const Row& row : source.results.rows) commits.insert(row.commit), dates.insert(row.date);
  std::string text =
      fmt::format("{} rows of {}. Measured {} at commits {}. ", source.results.rows.size(),
                  fmt::join(source.files, ", "), fmt::join(dates, ", "), fmt::join(commits, ", "));
  if (!source.against.empty())
    text += fmt::format("Compared with {}. ", fmt::join(source.against, ", "));
  for (const auto& [name, count] : source.results.others)
    text += fmt::format("Left out: {} {} of {}, which is no layer's benchmark. ", count,
                        count == 1 ? "row" : "rows", name);
  return text +
         fmt::format("Of several rows for one cell the last counts. Made by switchyard {} report.",
                     version());
}

}  // namespace

std::string page(const Source& source, const std::vector<Section>& sections) {
  std::string body = "<h1>Switchyard: what was measured</h1>\n";
  body += list(headlines_of(layers_of(source.results.rows)));
  body += navigation(sections);
  for (const Section& section : sections) body += html(section);
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>Switchyard: what was measured</title>\n<style>{}{}</style></head>\n"
      "<body><main>\n{}</main>\n<footer><p>{}</p></footer></body></html>\n",
      kChartStyle, kPageStyle, body, escaped(origin(source)));
}

std::string svg_file(const Section& section) {
  std::string charts;
  int count = 0;
  for (const Figure& figure : section.figures)
    for (const Chart& chart : figure.chart) {
      const int x = kGap + count % 2 * (kChartWidth + kGap);
      const int y = kGap + count / 2 * (kChartHeight + kGap);
      charts += fmt::format("<g transform=\"translate({} {})\">{}</g>\n", x, y, to_svg(chart));
      ++count;
    }
  const int columns = std::min(count, 2), rows = (count + 1) / 2;
  const int width = kGap + columns * (kChartWidth + kGap);
  const int height = kGap + rows * (kChartHeight + kGap);
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" role=\"img\" aria-label=\"{2}\">\n<style>{3}</style>\n"
      "<rect class=\"ground\" width=\"{0}\" height=\"{1}\"/>\n{4}</svg>\n",
      width, height, escaped(section.title), kChartStyle, charts);
}

}  // namespace switchyard::cli::report
